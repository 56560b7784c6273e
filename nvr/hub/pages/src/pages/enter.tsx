// A one-time link: whoever got it sets a password and is in. The code stands behind the #, which browsers send to nobody.

import { useLocation } from "preact-iso";
import { useState } from "preact/hooks";
import { ApiFault, ask, type Session } from "../api";
import { welcome } from "../who";
import { Icon } from "../parts/icon";
import { Field, input } from "../parts/small";
import { t } from "../words";
import { Outside } from "./login";

const LEAST = 12;

export function Enter() {
  const { route } = useLocation();
  const [code] = useState(() => location.hash.slice(1));
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const [again, setAgain] = useState("");
  const [fault, setFault] = useState("");
  const submit = async (event: Event) => {
    event.preventDefault();
    if (password !== again) return setFault(t("different"));
    if (password.length < LEAST) return setFault(t("passwordRule"));
    setFault("");
    try {
      welcome(await ask<Session>("/session/link", "POST", { code, password, ...(name.trim() ? { name: name.trim().toLowerCase() } : {}) }));
      route("/", true);
    } catch (error) {
      const what = error as ApiFault;
      setFault([400, 401, 403, 404, 410].includes(what.status) ? t("badLink") : what.message);
    }
  };
  return (
    <Outside title={t("enterTitle")}>
      <p class="hint">{t("enterHint")}</p>
      <form onSubmit={(event) => void submit(event)}>
        <Field label={t("userName")} hint={t("nameOnlyFirst")}>
          <input name="username" autocomplete="username" autocapitalize="none" spellcheck={false} value={name} onInput={input(setName)} />
        </Field>
        <Field label={t("newPassword")} hint={t("passwordRule")}>
          <input type="password" autocomplete="new-password" required autofocus minLength={LEAST} value={password} onInput={input(setPassword)} />
        </Field>
        <Field label={t("again")}>
          <input type="password" autocomplete="new-password" required value={again} onInput={input(setAgain)} />
        </Field>
        {fault && (
          <p class="fault" role="alert">
            <Icon name="warn" /> {fault}
          </p>
        )}
        <button class="main">{t("setPassword")}</button>
      </form>
    </Outside>
  );
}

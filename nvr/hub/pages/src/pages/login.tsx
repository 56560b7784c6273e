// Who is there. The second step appears only for accounts that have one.

import { useState } from "preact/hooks";
import { ApiFault, ask, type Session } from "../api";
import { welcome } from "../who";
import { Icon } from "../parts/icon";
import { Field, input } from "../parts/small";
import { howLong } from "../time";
import { chooseLanguage, language, t } from "../words";

export function Outside(props: { title: string; children: preact.ComponentChildren }) {
  return (
    <main class="outside">
      <div class="card">
        <svg class="mark" viewBox="0 0 32 32" aria-hidden="true">
          <circle cx="16" cy="16" r="11" fill="none" stroke="currentColor" stroke-width="2.600" />
          <circle cx="16" cy="16" r="4.500" fill="currentColor" />
        </svg>
        <h1>{props.title}</h1>
        {props.children}
        <button type="button" class="quiet" lang={language.value === "id" ? "en" : "id"} onClick={() => chooseLanguage(language.value === "id" ? "en" : "id")}>
          {t("language")}
        </button>
      </div>
    </main>
  );
}

export const wantsSecondStep = (fault: ApiFault) => /totp/i.test(`${fault.key} ${fault.message} ${JSON.stringify(fault.body)}`);

export function loginFault(fault: ApiFault): string {
  const retry = Number(fault.body.retry_s ?? (fault.body.detail as { retry_s?: number } | undefined)?.retry_s ?? (fault.body.error as { retry_s?: number } | undefined)?.retry_s ?? 60);
  if (fault.status === 429) return t("tooMany", howLong(retry * 1000));
  if (fault.status === 401 || fault.status === 403 || fault.status === 422) return t("wrongLogin");
  return fault.message;
}

export function Login() {
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const [code, setCode] = useState("");
  const [needsCode, setNeedsCode] = useState(false);
  const [isShown, setShown] = useState(false);
  const [isBusy, setBusy] = useState(false);
  const [fault, setFault] = useState("");

  const submit = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    setFault("");
    try {
      welcome(await ask<Session>("/session", "POST", { name, password, ...(needsCode ? { totp: code.replace(/\s/g, "") } : {}) }));
    } catch (error) {
      const what = error as ApiFault;
      if (what.status === 401 && wantsSecondStep(what) && !needsCode) setNeedsCode(true);
      else setFault(loginFault(what));
    }
    setBusy(false);
  };

  return (
    <Outside title={t("welcome")}>
      <form onSubmit={(event) => void submit(event)}>
        <Field label={t("userName")}>
          <input name="username" autocomplete="username" autocapitalize="none" spellcheck={false} required autofocus value={name} onInput={input(setName)} />
        </Field>
        <Field label={t("password")}>
          <input name="password" {...(isShown ? { type: "text" } : { type: "password" })} autocomplete="current-password" required value={password} onInput={input(setPassword)} />
        </Field>
        <label class="check">
          <input type="checkbox" checked={isShown} onChange={() => setShown(!isShown)} /> {t("showPassword")}
        </label>
        {needsCode && (
          <Field label={t("totp")} hint={t("totpHint")}>
            <input name="totp" inputMode="numeric" autocomplete="one-time-code" pattern="[0-9 ]{6,7}" required autofocus value={code} onInput={input(setCode)} />
          </Field>
        )}
        {fault && (
          <p class="fault" role="alert">
            <Icon name="warn" /> {fault}
          </p>
        )}
        <button class="main" disabled={isBusy}>
          {t("logIn")}
        </button>
        <p class="hint">{t("forgotten")}</p>
      </form>
    </Outside>
  );
}

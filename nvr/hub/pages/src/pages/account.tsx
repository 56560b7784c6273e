// One's own password, language and second step.

import { useState } from "preact/hooks";
import { ApiFault, ask, session, type Session } from "../api";
import { Badge, Fault, Field, input } from "../parts/small";
import { t } from "../words";
import { welcome } from "../who";

function Password() {
  const [old, setOld] = useState("");
  const [fresh, setFresh] = useState("");
  const [again, setAgain] = useState("");
  const [fault, setFault] = useState<ApiFault | null>(null);
  const [isDone, setDone] = useState(false);
  const submit = async (event: Event) => {
    event.preventDefault();
    setDone(false);
    if (fresh !== again) return setFault(new ApiFault(0, t("different")));
    try {
      await ask("/session", "PATCH", { password: old, new_password: fresh });
      setFault(null);
      setDone(true);
      setOld("");
      setFresh("");
      setAgain("");
    } catch (error) {
      setFault(error as ApiFault);
    }
  };
  return (
    <form class="card" onSubmit={(event) => void submit(event)}>
      <h2>{t("changePassword")}</h2>
      <Field label={t("oldPassword")}>
        <input type="password" autocomplete="current-password" required value={old} onInput={input(setOld)} />
      </Field>
      <Field label={t("newPassword")} hint={t("passwordRule")}>
        <input type="password" autocomplete="new-password" required minLength={12} value={fresh} onInput={input(setFresh)} />
      </Field>
      <Field label={t("again")}>
        <input type="password" autocomplete="new-password" required value={again} onInput={input(setAgain)} />
      </Field>
      <Fault fault={fault} />
      {isDone && <p class="note">{t("changed")}</p>}
      <p class="bar end">
        <button class="main">{t("save")}</button>
      </p>
    </form>
  );
}

function SecondStep() {
  const [secret, setSecret] = useState("");
  const [code, setCode] = useState("");
  const [fault, setFault] = useState<ApiFault | null>(null);
  const isOn = session.value?.has_totp;
  const begin = async () => {
    try {
      setSecret((await ask<{ secret: string }>("/session/totp", "POST", {})).secret);
      setFault(null);
    } catch (error) {
      setFault(error as ApiFault);
    }
  };
  const submit = async (event: Event) => {
    event.preventDefault();
    try {
      await ask("/session/totp", "PUT", { code: code.replace(/\s/g, "") });
      setSecret("");
      setFault(null);
      welcome(await ask<Session>("/session"));
    } catch (error) {
      setFault(error as ApiFault);
    }
  };
  return (
    <section class="card">
      <h2>{t("secondStepTitle")}</h2>
      <p>
        <Badge tone={isOn ? "good" : "quiet"} icon={isOn ? "seal" : "question"}>
          {isOn ? t("totpOn") : t("totpOff")}
        </Badge>
      </p>
      {secret ? (
        <form onSubmit={(event) => void submit(event)}>
          <p>{t("totpScan")}</p>
          <p class="code">{secret.replace(/(.{4})/g, "$1 ").trim()}</p>
          <Field label={t("totp")}>
            <input inputMode="numeric" autocomplete="one-time-code" required pattern="[0-9 ]{6,7}" value={code} onInput={input(setCode)} />
          </Field>
          <p class="bar end">
            <button class="main">{t("save")}</button>
          </p>
        </form>
      ) : (
        !isOn && (
          <p class="bar end">
            <button type="button" class="main" onClick={() => void begin()}>
              {t("totpSetUp")}
            </button>
          </p>
        )
      )}
      <Fault fault={fault} />
    </section>
  );
}

export const Account = () => (
  <>
    <div class="head">
      <h1>
        {t("yourAccount")}: {session.value?.name || session.value?.user}
      </h1>
    </div>
    <div class="boxes">
      <Password />
      <SecondStep />
      <section class="card">
        <h2>{t("tokensTitle")}</h2>
        <p class="hint">{t("tokensHint")}</p>
        <p class="bar end">
          <a class="button" href="/tokens">
            {t("show")}
          </a>
        </p>
      </section>
    </div>
  </>
);

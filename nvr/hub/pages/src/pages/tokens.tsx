// API tokens: for programs, one for each, with no more than it needs. A token is shown once; the hub keeps only its hash.

import { useState } from "preact/hooks";
import { ApiFault, ask, session, useAnswer } from "../api";
import { Icon } from "../parts/icon";
import { Once } from "../parts/once";
import { Sections } from "../parts/sections";
import { Badge, Dialog, Empty, Fault, Field, Shown, input } from "../parts/small";
import { DAY_MS, hubNow, moment } from "../time";
import { said, t } from "../words";

interface Token {
  id: number;
  user: string;
  title: string;
  scopes: string[];
  created_ms: number;
  expires_ms: number | null;
  used_ms: number | null;
}

const DAYS = [30, 90, 365] as const;
const SOON_MS = 14 * DAY_MS;

function NewToken(props: { onClose: () => void; again: () => void }) {
  const mine = session.value?.permissions ?? [];
  const [title, setTitle] = useState("");
  const [scopes, setScopes] = useState<string[]>(["see"]);
  const [days, setDays] = useState<number | null>(365);
  const [made, setMade] = useState("");
  const [fault, setFault] = useState<ApiFault | null>(null);
  const submit = async (event: Event) => {
    event.preventDefault();
    if (scopes.length === 0) return setFault(new ApiFault(0, t("scopeNeeded")));
    try {
      const body = { title: title.trim(), scopes, valid_hours: days === null ? null : days * 24 };
      setMade((await ask<{ token: string }>("/tokens", "POST", body)).token);
      props.again();
    } catch (error) {
      setFault(error as ApiFault);
    }
  };
  return (
    <Dialog title={t("newToken")} onClose={props.onClose}>
      {made ? (
        <div class="inside">
          <Once words={t("tokenMade")} secret={made} onClose={props.onClose} />
        </div>
      ) : (
        <form class="inside" onSubmit={(event) => void submit(event)}>
          <Field label={t("tokenFor")} hint={t("tokenForHint")}>
            <input required autofocus maxLength={200} value={title} onInput={input(setTitle)} name="title" />
          </Field>
          <fieldset class="choices">
            <legend>{t("tokenMay")}</legend>
            {mine.map((scope) => (
              <label key={scope} class="check">
                <input
                  type="checkbox"
                  checked={scopes.includes(scope)}
                  onChange={() => setScopes(scopes.includes(scope) ? scopes.filter((each) => each !== scope) : [...scopes, scope])}
                  name={scope}
                />
                <span>{said("scope", scope)}</span>
              </label>
            ))}
          </fieldset>
          <Field label={t("validFor")}>
            <select value={String(days)} onChange={(event) => setDays(event.currentTarget.value === "null" ? null : Number(event.currentTarget.value))} name="days">
              {DAYS.map((each) => (
                <option key={each} value={each}>
                  {t("days", each)}
                </option>
              ))}
              <option value="null">{t("withoutEnd")}</option>
            </select>
          </Field>
          <Fault fault={fault} />
          <p class="bar end">
            <button type="button" onClick={props.onClose}>
              {t("cancel")}
            </button>
            <button class="main">{t("makeToken")}</button>
          </p>
        </form>
      )}
    </Dialog>
  );
}

function TokenRow(props: { token: Token; again: () => void }) {
  const { token } = props;
  const [fault, setFault] = useState<ApiFault | null>(null);
  const now = hubNow();
  const isOver = token.expires_ms !== null && token.expires_ms <= now;
  const revoke = async () => {
    if (!confirm(t("revokeSure", token.title))) return;
    try {
      await ask(`/tokens/${token.id}`, "DELETE");
      props.again();
    } catch (error) {
      setFault(error as ApiFault);
    }
  };
  return (
    <li data-token={token.id}>
      <div class="words">
        <b>{token.title || t("untitled")}</b> <small>{token.user}</small>
        <br />
        {token.scopes.map((each) => said("scope", each)).join(", ")}
        <br />
        <small>
          {token.used_ms ? t("lastUsed", moment(token.used_ms)) : t("neverUsed")} · {token.expires_ms ? t("expires", moment(token.expires_ms)) : t("withoutEnd")}
        </small>
        <Fault fault={fault} />
      </div>
      {isOver ? (
        <Badge tone="quiet" icon="lock">
          {t("over")}
        </Badge>
      ) : token.expires_ms !== null && token.expires_ms - now < SOON_MS ? (
        <Badge tone="unsure" icon="clock">
          {t("endsSoon")}
        </Badge>
      ) : null}
      <button type="button" class="danger" onClick={() => void revoke()}>
        {t("revoke")}
      </button>
    </li>
  );
}

export function Tokens() {
  const answer = useAnswer<{ tokens: Token[] }>("/tokens", "tokens");
  const [isNew, setNew] = useState(false);
  return (
    <>
      <Sections here="tokens" />
      <div class="head">
        <h1>{t("tokensTitle")}</h1>
        <button type="button" class="main" onClick={() => setNew(true)}>
          <Icon name="plus" /> {t("newToken")}
        </button>
      </div>
      <p class="hint lead">{t("tokensHint")}</p>
      <Shown answer={answer}>
        {({ tokens }) =>
          tokens.length === 0 ? (
            <Empty icon="link" title={t("noTokens")} hint={t("noTokensHint")} />
          ) : (
            <ul class="list rows card">
              {tokens.map((token) => (
                <TokenRow key={token.id} token={token} again={answer.again} />
              ))}
            </ul>
          )
        }
      </Shown>
      {isNew && <NewToken onClose={() => setNew(false)} again={answer.again} />}
    </>
  );
}

// The frame around every page: where one is, whether the hub is there, and what time it is in the city.

import type { ComponentChildren } from "preact";
import { useLocation } from "preact-iso";
import { useEffect, useRef, useState } from "preact/hooks";
import { ask, forgetAll, heardMs, isMayor, may, session, titled, useAnswer } from "../api";
import { clock, hourMinute, hubNow, now, second, zoneWords } from "../time";
import { chooseLanguage, language, t, type Key } from "../words";
import { Icon, type IconName } from "./icon";
import { mySections } from "./sections";

const GONE_MS = 13_000; // the hub is asked every ten seconds; two more and a half for a slow link

export const isGone = (): boolean => (second.value, now() - heardMs.value > GONE_MS);

interface Part {
  key: IconName & Key;
  address: string;
  isFor: () => boolean;
  alsoAt?: string[];
}

const everybody = () => true;
const PARTS: Part[] = [
  { key: "wall", address: "/wall", isFor: everybody },
  { key: "places", address: "/places", isFor: everybody },
  { key: "map", address: "/map", isFor: everybody },
  { key: "alerts", address: "/alerts", isFor: everybody },
  { key: "reports", address: "/reports", isFor: () => may("report") },
  { key: "boxes", address: "/boxes", isFor: () => may("health") },
];

const isAt = (path: string, address: string) => path === address || path.startsWith(`${address}/`);

const parts = () => {
  const mine = PARTS.filter((each) => each.isFor());
  const behind = mySections().map((each) => each.address);
  if (behind.length) mine.push({ key: "manage", address: behind[0]!, isFor: everybody, alsoAt: behind });
  return isMayor() ? [mine[1]!, mine[0]!, ...mine.slice(2)] : mine;
};

function NewAlerts() {
  const { data } = useAnswer<{ alerts?: unknown[] }>("/alerts?state=open", "alerts");
  const count = data?.alerts?.length ?? 0;
  return count ? <b class="count">{count > 99 ? "99+" : count}</b> : null;
}

function PartLink(props: { part: Part; onClick?: () => void }) {
  const { path } = useLocation();
  const { key, address, alsoAt } = props.part;
  const isHere = [address, ...(alsoAt ?? [])].some((each) => isAt(path, each)) || (key === "wall" && path.startsWith("/cameras/"));
  return (
    <a href={address} aria-current={isHere ? "page" : undefined} onClick={props.onClick}>
      <Icon name={key} />
      <span>{t(key)}</span>
      {key === "alerts" && <NewAlerts />}
    </a>
  );
}

/** The choice holds in this browser at once, and for messages that the hub sends. */
function otherLanguage(): void {
  const code = language.value === "id" ? "en" : "id";
  chooseLanguage(code);
  void ask("/session", "PATCH", { language: code }).catch(() => null);
}

async function logOut(): Promise<void> {
  await ask("/session", "DELETE").catch(() => null);
  forgetAll();
  session.value = null;
  location.assign("/login"); // nothing of what was shown stays in memory
}

function Me() {
  return (
    <>
      <button type="button" class="quiet" lang={language.value === "id" ? "en" : "id"} onClick={otherLanguage}>
        {t("language")}
      </button>
      <a class="button quiet" href="/account">
        {session.value?.name || session.value?.user}
      </a>
      <button type="button" class="quiet" onClick={() => void logOut()}>
        {t("logOut")}
      </button>
    </>
  );
}

function Contact() {
  second.value;
  const gone = isGone();
  return (
    <p class={`contact ${gone ? "bad" : ""}`} role="status">
      <i aria-hidden="true" />
      <span class="word">{gone ? t("noContact") : t("connected")}</span>
      {!gone && <time aria-hidden="true">{clock(hubNow())} {zoneWords()}</time>}
    </p>
  );
}

function Gone() {
  if (!isGone()) return null;
  return (
    <div class="gone" role="alert">
      <Icon name="warn" />
      <p>
        <b>{t("noContact")}</b> {t("noContactSince", hourMinute(hubNow() - (now() - heardMs.value)))}
      </p>
    </div>
  );
}

export function Shell(props: { children: ComponentChildren }) {
  const { path } = useLocation();
  const [isOpen, setOpen] = useState(false);
  const main = useRef<HTMLElement>(null);
  const isFirst = useRef(true);
  useEffect(() => {
    setOpen(false);
    if (isFirst.current) isFirst.current = false;
    else main.current?.focus({ preventScroll: true }); // a reader of screens begins at the new page
    window.scrollTo(0, 0);
  }, [path]);
  const title = titled(session.value?.city?.title) || "nvr";
  const mine = parts();
  const here = mine.find((each) => [each.address, ...(each.alsoAt ?? [])].some((address) => isAt(path, address)));
  useEffect(() => void (document.title = here ? `${t(here.key)} · ${title}` : title), [path, language.value, title]);
  return (
    <>
      <a class="skip" href="#content" onClick={(event) => (event.preventDefault(), main.current?.focus())}>
        {t("skip")}
      </a>
      <header class="top">
        <a class="city" href="/">
          <svg viewBox="0 0 32 32" aria-hidden="true">
            <circle cx="16" cy="16" r="11" fill="none" stroke="currentColor" stroke-width="2.600" />
            <circle cx="16" cy="16" r="4.500" fill="currentColor" />
          </svg>
          <b>{title}</b>
        </a>
        <nav class="main" aria-label={t("menu")}>
          {mine.map((part) => (
            <PartLink key={part.key} part={part} />
          ))}
        </nav>
        <Contact />
        <div class="me">
          <Me />
        </div>
      </header>
      <Gone />
      <main id="content" ref={main} tabIndex={-1} class={isGone() ? "not-now" : ""}>
        {props.children}
      </main>
      <nav class="thumb" aria-label={t("menu")}>
        {mine.slice(0, 4).map((part) => (
          <PartLink key={part.key} part={part} />
        ))}
        <button type="button" aria-expanded={isOpen} onClick={() => setOpen(!isOpen)}>
          <Icon name="more" />
          <span>{t("more")}</span>
        </button>
      </nav>
      {isOpen && (
        <div class="drawer">
          {mine.slice(4).map((part) => (
            <PartLink key={part.key} part={part} onClick={() => setOpen(false)} />
          ))}
          <div class="me">
            <Me />
          </div>
        </div>
      )}
    </>
  );
}

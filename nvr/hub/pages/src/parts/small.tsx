// Small parts that many pages share.

import type { ComponentChildren, TargetedEvent } from "preact";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { ApiFault, type Answer } from "../api";
import { language, t } from "../words";
import { Icon, type IconName } from "./icon";

export const Loading = () => (
  <p class="loading" role="status">
    {t("loading")}
  </p>
);

export function Empty(props: { title: string; hint?: string; link?: [string, string]; icon?: IconName; children?: ComponentChildren }) {
  return (
    <section class="empty">
      {props.icon && <Icon name={props.icon} />}
      <h2>{props.title}</h2>
      {props.hint && <p>{props.hint}</p>}
      {props.link && (
        <a class="button" href={props.link[0]}>
          {props.link[1]}
        </a>
      )}
      {props.children}
    </section>
  );
}

export function Fault(props: { fault: ApiFault | null; again?: () => void }) {
  const { fault } = props;
  if (!fault) return null;
  const words = fault.status === 403 ? t("notAllowed") : fault.status === 404 ? t("notFound") : fault.message;
  return (
    <div class="fault" role="alert">
      <Icon name="warn" />
      <p>
        {words} {language.value === "en" && fault.status !== 403 && fault.status !== 404 && fault.hint}
      </p>
      {props.again && (
        <button type="button" onClick={props.again}>
          {t("tryAgain")}
        </button>
      )}
    </div>
  );
}

/** What an answer holds, or why there is nothing. Old data stays on screen beside its fault: the frame says that there is no contact. */
export function Shown<T>(props: { answer: Answer<T> & { again: () => void }; children: (data: T) => ComponentChildren }) {
  const { data, fault, again } = props.answer;
  if (data === null) return fault ? <Fault fault={fault} again={again} /> : <Loading />;
  return (
    <>
      {fault && fault.status !== 0 && <Fault fault={fault} again={again} />}
      {props.children(data)}
    </>
  );
}

export type Tone = "good" | "bad" | "unsure" | "quiet" | "busy";

/** A state in a word, a colour and a shape: any two of them are enough to read it. */
export function Badge(props: { tone: Tone; icon: IconName; children: ComponentChildren; large?: boolean }) {
  return (
    <span class={`badge ${props.tone}${props.large ? " large" : ""}`}>
      <Icon name={props.icon} />
      <span>{props.children}</span>
    </span>
  );
}

export function Dialog(props: { title: string; onClose: () => void; children: ComponentChildren; wide?: boolean }) {
  const place = useRef<HTMLDialogElement>(null);
  // Before it is painted: who types at once must not type into what is not shown yet.
  useLayoutEffect(() => {
    const dialog = place.current!;
    dialog.showModal(); // keeps the focus inside, and Escape closes it
    return () => dialog.close();
  }, []);
  return (
    <dialog
      ref={place}
      class={props.wide ? "wide" : ""}
      aria-label={props.title}
      onClose={props.onClose}
      onClick={(event) => event.target === place.current && props.onClose()}
    >
      <header>
        <h2>{props.title}</h2>
        <button type="button" class="quiet" aria-label={t("close")} onClick={props.onClose}>
          <Icon name="close" />
        </button>
      </header>
      {props.children}
    </dialog>
  );
}

export function Field(props: { label: string; hint?: string; children: ComponentChildren }) {
  return (
    <label class="field">
      <span>{props.label}</span>
      {props.children}
      {props.hint && <small>{props.hint}</small>}
    </label>
  );
}

/** Choices of which one holds; links, so that an address can be kept and the keyboard works as everywhere. */
export function Tabs(props: { label: string; items: [string, string, ComponentChildren, string | number | null][]; chosen: string }) {
  const place = useRef<HTMLElement>(null);
  useEffect(() => {
    // On a phone they stand in one row that scrolls: the chosen one is seen. Not scrollIntoView(), which moves the page as well.
    const chosen = place.current?.querySelector<HTMLElement>("[aria-current]");
    if (chosen) place.current!.scrollLeft = chosen.offsetLeft - place.current!.offsetLeft - 16;
  }, [props.chosen]);
  return (
    <nav class="tabs" aria-label={props.label} ref={place}>
      {props.items.map(([key, address, words, count]) => (
        <a key={key} href={address} aria-current={key === props.chosen ? "true" : undefined}>
          {words}
          {count !== null && <b>{count}</b>}
        </a>
      ))}
    </nav>
  );
}

export const input = (take: (value: string) => void) => (event: TargetedEvent<HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement>) =>
  take(event.currentTarget.value);

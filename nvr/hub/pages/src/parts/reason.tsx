// A dialog for what must not be done without a reason: the reason, the button, and what the hub says to it.

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { ApiFault } from "../api";
import { t } from "../words";
import { Dialog, Fault, Field, input } from "./small";

export function ReasonDialog(props: {
  title: string;
  label: string;
  hint?: string;
  button: ComponentChildren;
  isDanger?: boolean;
  name?: string;
  most?: number; // letters
  send: (reason: string) => Promise<unknown>;
  onClose: () => void;
  children?: ComponentChildren; // what is about to happen
}) {
  const [reason, setReason] = useState("");
  const [fault, setFault] = useState<ApiFault | null>(null);
  const submit = async (event: Event) => {
    event.preventDefault();
    try {
      await props.send(reason.trim());
      props.onClose();
    } catch (error) {
      setFault(error as ApiFault);
    }
  };
  return (
    <Dialog title={props.title} onClose={props.onClose}>
      <form class="inside" onSubmit={(event) => void submit(event)}>
        {props.children}
        <Field label={props.label} hint={props.hint}>
          <textarea required autofocus minLength={3} maxLength={props.most ?? 1000} value={reason} onInput={input(setReason)} name={props.name ?? "reason"} />
        </Field>
        <Fault fault={fault} />
        <p class="bar end">
          <button type="button" onClick={props.onClose}>
            {t("cancel")}
          </button>
          <button class={props.isDanger ? "danger" : "main"}>{props.button}</button>
        </p>
      </form>
    </Dialog>
  );
}

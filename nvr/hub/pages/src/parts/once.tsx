// A secret that is shown once: to be copied now, or made anew.

import { useState } from "preact/hooks";
import { t } from "../words";
import { Icon } from "./icon";

export function Once(props: { words: string; secret: string; onClose: () => void }) {
  const [isCopied, setCopied] = useState(false);
  const copy = () => void navigator.clipboard?.writeText(props.secret).then(() => setCopied(true));
  return (
    <>
      <div class="note">
        <p>{props.words}</p>
        <p>
          <code class="secret" data-secret>
            {props.secret}
          </code>
        </p>
      </div>
      <p class="bar end">
        <button type="button" onClick={copy}>
          <Icon name="link" /> {isCopied ? t("copied") : t("copy")}
        </button>
        <button type="button" class="main" onClick={props.onClose}>
          {t("keptSafe")}
        </button>
      </p>
    </>
  );
}

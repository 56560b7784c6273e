// Who looked at what, who took what, who changed what.

import { useState } from "preact/hooks";
import { useAnswer } from "../api";
import { Sections } from "../parts/sections";
import { Empty, Shown } from "../parts/small";
import { clock, shortDay } from "../time";
import { said, t } from "../words";

interface Entry {
  id: number;
  at_ms: number;
  who: string;
  what: string;
  object: string;
  address: string;
  more: Record<string, unknown>;
}

interface AuditAnswer {
  entries: Entry[];
  before: number | null;
}

const moreWords = (more: Record<string, unknown>) =>
  Object.entries(more)
    .filter(([, value]) => value !== "" && value !== null)
    .map(([key, value]) => `${key}: ${typeof value === "object" ? JSON.stringify(value) : String(value)}`)
    .join(" · ");

function Rows(props: { before: number | null; isLast: boolean; onMore: (before: number) => void }) {
  const answer = useAnswer<AuditAnswer>(props.before === null ? "/audit" : `/audit?before=${props.before}`, "audit");
  return (
    <Shown answer={answer}>
      {({ entries, before }) => (
        <>
          {entries.length === 0 && props.before === null && <Empty title={t("noAudit")} />}
          {entries.length > 0 && (
            <div class="scroll card">
              <table>
                <thead>
                  <tr>
                    {(["when", "who", "what", "object", "address"] as const).map((key) => (
                      <th key={key}>{key === "what" ? t("didWhat") : t(key)}</th>
                    ))}
                  </tr>
                </thead>
                <tbody>
                  {entries.map((each) => (
                    <tr key={each.id}>
                      <td class="num">
                        {shortDay(each.at_ms)}, {clock(each.at_ms)}
                      </td>
                      <td>{each.who}</td>
                      <td>{said("audit", each.what)}</td>
                      <td>
                        {each.object}
                        {Object.keys(each.more).length > 0 && (
                          <>
                            <br />
                            <small>{moreWords(each.more)}</small>
                          </>
                        )}
                      </td>
                      <td>{each.address}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          )}
          {props.isLast && before !== null && (
            <p class="bar" style={{ marginTop: ".8rem" }}>
              <button type="button" onClick={() => props.onMore(before)}>
                {t("moreRows")}
              </button>
            </p>
          )}
        </>
      )}
    </Shown>
  );
}

export function Audit() {
  const [pages, setPages] = useState<(number | null)[]>([null]);
  return (
    <>
      <Sections here="audit" />
      <div class="head">
        <h1>{t("audit")}</h1>
      </div>
      <p class="hint">{t("auditHint")}</p>
      {pages.map((before, number) => (
        <Rows key={String(before)} before={before} isLast={number === pages.length - 1} onMore={(next) => setPages([...pages, next])} />
      ))}
    </>
  );
}

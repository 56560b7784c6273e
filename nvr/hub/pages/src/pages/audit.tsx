// Who looked at what, who took what, who changed what.

import { useState } from "preact/hooks";
import { titled, useAnswer, type Place } from "../api";
import { Sections } from "../parts/sections";
import { Empty, Shown } from "../parts/small";
import { clock, shortDay } from "../time";
import { isKnown, said, t } from "../words";

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

const SHORT = 8; // digits of an identifier that nobody reads; the whole one is under the pointer

const at = (ms: number) => `${shortDay(ms)}, ${clock(ms)}`;

/** [["mayor", null]] of the command line, [{role, place}] of the pages. */
function roleWords(roles: unknown[]): string {
  return roles
    .map((each) => (Array.isArray(each) ? each : [(each as { role?: string }).role, (each as { place?: string | null }).place]) as [string, string | null])
    .map(([role, place]) => `${said("role", role)} (${place ?? t("allPlaces")})`)
    .join(", ");
}

function moreWords(more: Record<string, unknown>): string {
  const { from_ms, to_ms, roles, events: _, ...rest } = more; // events: their ids, for programs
  const span = typeof from_ms === "number" && typeof to_ms === "number" ? `${at(from_ms)} – ${at(to_ms)}` : "";
  const others = Object.entries(rest)
    .filter(([, value]) => value !== "" && value !== null && value !== undefined)
    .map(([key, value]) => `${said("auditKey", key)}: ${key.endsWith("_ms") && typeof value === "number" ? at(value) : typeof value === "object" ? JSON.stringify(value) : String(value)}`);
  return [span, Array.isArray(roles) ? roleWords(roles) : "", ...others].filter(Boolean).join(" · ");
}

/** "camera 12" as the log keeps it: in words, and with its place where there is one. */
function ObjectWords(props: { object: string; places: Place[] }) {
  const [kind = "", ...rest] = props.object.split(" ");
  const name = rest.join(" ");
  if (name === "events") return <>{t("manyEvents", kind)}</>;
  if (!name || !isKnown("thing", kind)) return <>{props.object}</>;
  const short = /^[0-9a-f]{32,}$/.test(name) ? `${name.slice(0, SHORT)}…` : name;
  const words = `${said("thing", kind)} ${short}`;
  if (kind === "alert") return <a href={`/alerts/${name}`}>{words}</a>;
  if (kind !== "camera") return <span title={name}>{words}</span>;
  const place = props.places.find((each) => each.cameras.some((camera) => String(typeof camera === "number" ? camera : camera.id) === name));
  return <a href={`/cameras/${name}`}>{place ? `${words} (${titled(place.title)})` : words}</a>;
}

function Rows(props: { before: number | null; isLast: boolean; onMore: (before: number) => void }) {
  const answer = useAnswer<AuditAnswer>(props.before === null ? "/audit" : `/audit?before=${props.before}`, "audit");
  const places = useAnswer<{ places: Place[] }>("/places", "places").data?.places ?? [];
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
                        {at(each.at_ms)}
                      </td>
                      <td>{each.who === "command line" ? t("commandLine") : each.who}</td>
                      <td>{said("audit", each.what)}</td>
                      <td>
                        <ObjectWords object={each.object} places={places} />
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

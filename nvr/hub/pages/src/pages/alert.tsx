// One alert with everything that was ever done about it.

import { useAnswer } from "../api";
import { AlertCard } from "../parts/alertcard";
import { kindWords, type Alert, type Step } from "../parts/instruct";
import { Shown } from "../parts/small";
import { clock, moment, shortDay } from "../time";
import { isKnown, said, t } from "../words";

function stepNote(step: Step): string {
  const more = step.more ?? {};
  const term = typeof more.due_ms === "number" ? t("dueBy", moment(more.due_ms)) : "";
  const to = more.to;
  return [to ? `→ ${String(to)}` : "", more.to && more.what ? String(more.what) : "", more.kind ? kindWords(String(more.kind), String(more.what ?? "")) : "", term, more.note ? String(more.note) : ""].filter(Boolean).join(" · ");
}

export function AlertPage(props: { id: string }) {
  const answer = useAnswer<Alert>(`/alerts/${Number(props.id)}`, "alerts");
  return (
    <>
      <p class="bar">
        <a class="button quiet" href="/alerts">
          ‹ {t("alerts")}
        </a>
      </p>
      <Shown answer={answer}>
        {(alert) => {
          const steps = alert.steps ?? [];
          return (
            <>
              <AlertCard alert={alert} />
              <div class="bar" style={{ margin: ".8rem 0" }}>
                {alert.camera_id && (
                  <a class="button" href={`/cameras/${alert.camera_id}?at=${alert.first_ms}`}>
                    {t("goMoment")}
                  </a>
                )}
                {alert.place && (
                  <a class="button" href={`/places/${encodeURIComponent(alert.place)}`}>
                    {t("place")}
                  </a>
                )}
              </div>
              <section class="card">
                <h2>{t("history")}</h2>
                <ol class="story">
                  {steps.map((step, number) => (
                    <li key={number}>
                      <time>
                        {shortDay(step.at_ms)}, {clock(step.at_ms)}
                      </time>
                      <br />
                      <b>{isKnown("history", step.what) ? said("history", step.what) : said("alert", step.what)}</b>
                      {step.who && <span> · {step.who}</span>}
                      {stepNote(step) && <p>{stepNote(step)}</p>}
                    </li>
                  ))}
                </ol>
              </section>
            </>
          );
        }}
      </Shown>
    </>
  );
}

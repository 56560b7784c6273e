// What wants somebody: new, in hand, done. The oldest new one stands first, because it has waited longest.

import { useLocation } from "preact-iso";
import { useAnswer } from "../api";
import { AlertCard } from "../parts/alertcard";
import type { AlertsAnswer } from "../parts/instruct";
import { Empty, Shown, Tabs } from "../parts/small";
import { t } from "../words";

const STATES = { open: "open", doing: "acknowledged,instructed", done: "done" } as const;

export function Alerts() {
  const { query } = useLocation();
  const chosen = (query.show ?? "open") as keyof typeof STATES;
  const state = STATES[chosen] ?? STATES.open;
  const open = useAnswer<AlertsAnswer>(`/alerts?state=${STATES.open}`, "alerts");
  const doing = useAnswer<AlertsAnswer>(`/alerts?state=${STATES.doing}`, "alerts");
  const answer = useAnswer<AlertsAnswer>(`/alerts?state=${state}`, "alerts");
  const count = (data: AlertsAnswer | null) => (data ? data.alerts.length : null);
  return (
    <>
      <div class="head">
        <h1>{t("alerts")}</h1>
        <Tabs
          label={t("show")}
          chosen={chosen}
          items={[
            ["open", "/alerts", t("alertTabOpen"), count(open.data)],
            ["doing", "/alerts?show=doing", t("alertTabDoing"), count(doing.data)],
            ["done", "/alerts?show=done", t("alertTabDone"), null],
          ]}
        />
      </div>
      <Shown answer={answer}>
        {({ alerts }) =>
          alerts.length === 0 ? (
            chosen === "open" ? <Empty icon="check" title={t("noAlerts")} hint={t("noAlertsHint")} /> : <Empty title={t("noAlertsHere")} />
          ) : (
            <div class="alerts">
              {[...alerts]
                .sort((a, b) => (chosen === "open" ? a.value - b.value || a.first_ms - b.first_ms : b.last_ms - a.last_ms))
                .map((alert) => (
                  <AlertCard key={alert.id} alert={alert} />
                ))}
            </div>
          )
        }
      </Shown>
    </>
  );
}

// The pages behind "Kelola": who may come in, what is kept, what goes out, and what was done.

import { may } from "../api";
import { t, type Key } from "../words";
import { Tabs } from "./small";

interface Section {
  key: Key;
  address: string;
  isFor: () => boolean;
}

const SECTIONS: Section[] = [
  { key: "users", address: "/users", isFor: () => may("administer") },
  { key: "holds", address: "/holds", isFor: () => may("hold") },
  { key: "requests", address: "/requests", isFor: () => may("administer") },
  { key: "tokens", address: "/tokens", isFor: () => may("hold") || may("administer") },
  { key: "notifications", address: "/notifications", isFor: () => may("administer") },
  { key: "webhooks", address: "/webhooks", isFor: () => may("administer") },
  { key: "updates", address: "/updates", isFor: () => may("administer") },
  { key: "audit", address: "/audit", isFor: () => may("administer") },
];

export const mySections = (): Section[] => SECTIONS.filter((each) => each.isFor());

/** Where one is among them; nothing for somebody who has one page only. */
export function Sections(props: { here: Key }) {
  const mine = mySections();
  if (mine.length < 2) return null;
  return (
    <div class="sections">
      <Tabs label={t("manage")} items={mine.map((each) => [each.key, each.address, t(each.key), null])} chosen={props.here} />
    </div>
  );
}

// The person who is logged in brings the city's time zone and, at first, a language.

import { session, type Session } from "./api";
import { setTimeZone } from "./time";
import { suggestLanguage } from "./words";

export function welcome(found: Session): void {
  setTimeZone(found.city?.time_zone ?? "UTC");
  suggestLanguage(found.language);
  session.value = found;
}

// People and what they may do where. Nobody is given a password: a one-time link lets each set their own.

import { useState } from "preact/hooks";
import { ApiFault, ask, titled, useAnswer, type Place } from "../api";
import { Badge, Dialog, Fault, Field, Shown, input } from "../parts/small";
import { Icon } from "../parts/icon";
import { Sections } from "../parts/sections";
import { moment } from "../time";
import { said, t } from "../words";

type RoleName = "viewer" | "operator" | "mayor" | "administrator";
const ROLES: RoleName[] = ["viewer", "operator", "mayor", "administrator"];

interface Role {
  role: RoleName;
  place: string | null;
}

interface User {
  name: string;
  full_name: string;
  roles: Role[];
  disabled: boolean;
  has_totp: boolean;
  has_password: boolean;
  seen_ms: number | null;
}

const linkOf = (code: string) => `${location.origin}/enter#${code}`;

function LinkWords(props: { code: string }) {
  const [isCopied, setCopied] = useState(false);
  return (
    <div class="note">
      <p>{t("userMade")}</p>
      <p>
        <code style={{ userSelect: "all" }}>{linkOf(props.code)}</code>
      </p>
      <button type="button" onClick={() => void navigator.clipboard?.writeText(linkOf(props.code)).then(() => setCopied(true))}>
        <Icon name="link" /> {isCopied ? t("copied") : t("copy")}
      </button>
    </div>
  );
}

function RoleFields(props: { roles: Role[]; places: Place[]; onChange: (roles: Role[]) => void }) {
  const { roles } = props;
  const change = (at: number, role: Role) => props.onChange(roles.map((each, number) => (number === at ? role : each)));
  return (
    <fieldset class="roles">
      <legend>{t("roles")}</legend>
      {roles.map((each, at) => (
        <div class="bar" key={at}>
          <select aria-label={t("role")} value={each.role} onChange={(event) => change(at, { ...each, role: event.currentTarget.value as RoleName })}>
            {ROLES.map((role) => (
              <option key={role} value={role}>
                {said("role", role)}
              </option>
            ))}
          </select>
          <select aria-label={t("place")} value={each.place ?? ""} onChange={(event) => change(at, { ...each, place: event.currentTarget.value || null })}>
            <option value="">{t("allPlaces")}</option>
            {props.places.map((place) => (
              <option key={place.name} value={place.name}>
                {titled(place.title)}
              </option>
            ))}
          </select>
          <button type="button" class="quiet" aria-label={t("close")} onClick={() => props.onChange(roles.filter((_, number) => number !== at))}>
            <Icon name="minus" />
          </button>
        </div>
      ))}
      <button type="button" class="quiet" onClick={() => props.onChange([...roles, { role: "viewer", place: null }])}>
        <Icon name="plus" /> {t("role")}
      </button>
    </fieldset>
  );
}

function UserDialog(props: { user: User | null; onClose: () => void; again: () => void }) {
  const { user } = props;
  const places = useAnswer<{ places: Place[] }>("/places", "places");
  const [name, setName] = useState(user?.name ?? "");
  const [full, setFull] = useState(user?.full_name ?? "");
  const [roles, setRoles] = useState<Role[]>(user?.roles ?? [{ role: "viewer", place: null }]);
  const [code, setCode] = useState("");
  const [fault, setFault] = useState<ApiFault | null>(null);
  const send = async (body: object) => {
    try {
      const answer = user
        ? await ask<{ link_code: string | null } | null>(`/users/${encodeURIComponent(user.name)}`, "PATCH", body)
        : await ask<{ link_code: string | null } | null>("/users", "POST", { name: name.trim().toLowerCase(), ...body });
      setFault(null);
      props.again();
      if (answer?.link_code) setCode(answer.link_code);
      else props.onClose();
    } catch (error) {
      setFault(error as ApiFault);
    }
  };
  return (
    <Dialog title={user ? user.full_name || user.name : t("addUser")} onClose={props.onClose}>
      <form class="inside" onSubmit={(event) => (event.preventDefault(), void send({ full_name: full.trim(), roles }))}>
        {code ? (
          <LinkWords code={code} />
        ) : (
          <>
            {!user && (
              <Field label={t("userName")}>
                <input required pattern="[A-Za-z0-9][A-Za-z0-9._\-]{1,62}" autocapitalize="none" value={name} onInput={input(setName)} name="name" />
              </Field>
            )}
            <Field label={t("fullName")}>
              <input maxLength={200} value={full} onInput={input(setFull)} name="full_name" />
            </Field>
            <RoleFields roles={roles} places={places.data?.places ?? []} onChange={setRoles} />
            <Fault fault={fault} />
            <p class="bar end">
              {user && (
                <>
                  <button type="button" onClick={() => void send({ new_link: true })}>
                    {t("newLink")}
                  </button>
                  <button type="button" class="danger" onClick={() => void send({ disabled: !user.disabled })}>
                    {user.disabled ? t("enable") : t("disable")}
                  </button>
                </>
              )}
              <button class="main">{t("save")}</button>
            </p>
          </>
        )}
      </form>
    </Dialog>
  );
}

export function Users() {
  const answer = useAnswer<{ users: User[] }>("/users", "users");
  const [chosen, setChosen] = useState<User | "new" | null>(null);
  return (
    <>
      <Sections here="users" />
      <div class="head">
        <h1>{t("users")}</h1>
        <button type="button" class="main" onClick={() => setChosen("new")}>
          <Icon name="plus" /> {t("addUser")}
        </button>
      </div>
      <Shown answer={answer}>
        {({ users }) => (
          <ul class="list card">
            {users.map((user) => (
              <li key={user.name} data-user={user.name}>
                <div class="words">
                  <b>{user.full_name || user.name}</b> {user.full_name && user.full_name !== user.name && <small>{user.name}</small>}
                  <br />
                  <small>
                    {user.roles.map((each) => `${said("role", each.role)} (${each.place ?? t("allPlaces")})`).join(", ")} ·{" "}
                    {user.seen_ms ? t("lastSeenUser", moment(user.seen_ms)) : t("never")}
                  </small>
                </div>
                {user.disabled && (
                  <Badge tone="quiet" icon="lock">
                    {t("disabled")}
                  </Badge>
                )}
                {user.has_totp && (
                  <Badge tone="good" icon="seal">
                    {t("secondStep")}
                  </Badge>
                )}
                <button type="button" class="quiet" onClick={() => setChosen(user)}>
                  {t("change")}
                </button>
              </li>
            ))}
          </ul>
        )}
      </Shown>
      {chosen && <UserDialog user={chosen === "new" ? null : chosen} onClose={() => setChosen(null)} again={answer.again} />}
    </>
  );
}

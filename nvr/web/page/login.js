// Log-in, and setting the password after a one-time link. The secret of the link stands behind # and leaves the
// address bar at once, so that neither history nor screenshots keep it.

import { BoxError, send } from "./box.js";
import { el } from "./dom.js";
import { setLanguage, t } from "./words.js";

const token = location.pathname === "/enter" ? decodeURIComponent(location.hash.slice(1)) : "";
if (token) history.replaceState(null, "", "/enter");

function field(name, label, autocomplete) {
  const input = el("input", {
    id: name, name, type: "password", autocomplete, required: true, maxlength: 256, minlength: token ? 10 : null,
  });
  return [el("label", { for: name }, label), input];
}

function page() {
  const fault = el("p", { class: "fault", role: "alert" });
  const fields = token
    ? [...field("password", t("newPassword"), "new-password"), el("p", { class: "hint" }, t("passwordHelp")), ...field("again", t("again"), "new-password")]
    : field("password", t("password"), "current-password");
  const show = el("input", { type: "checkbox", onchange: () => form.querySelectorAll("[name]").forEach((input) => (input.type = show.checked ? "text" : "password")) });
  const button = el("button", { class: "main" }, t(token ? "setPassword" : "logIn"));
  const form = el(
    "form",
    { class: "card login", onsubmit: enter },
    el("img", { src: document.querySelector("link[rel=icon]").href, alt: "", width: 44, height: 44 }),
    el("h1", {}, t(token ? "firstTime" : "welcome")),
    // Password managers want to know whose password this is.
    el("input", { type: "text", name: "username", autocomplete: "username", value: "nvr", hidden: true }),
    ...fields,
    el("label", { class: "check" }, show, t("show")),
    fault,
    button,
    token ? null : el("p", { class: "hint" }, t("forgotten")),
    el("button", { type: "button", class: "quiet", onclick: () => (setLanguage(t("otherLanguage")), page()) }, t("language")),
  );

  async function enter(event) {
    event.preventDefault();
    const password = form.elements.password.value;
    if (token && password !== form.elements.again.value) {
      fault.textContent = t("different");
      return;
    }
    button.disabled = true;
    fault.textContent = "";
    try {
      await send("POST", token ? "/api/password" : "/api/login", { password, token });
      location.replace("/");
    } catch (error) {
      if (!(error instanceof BoxError)) throw error;
      fault.textContent = `${error.message}. ${error.hint}`;
      button.disabled = false;
      form.elements.password.focus();
    }
  }

  document.body.replaceChildren(el("main", { class: "login" }, form));
  form.elements.password.focus();
}

page();

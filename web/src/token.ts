// The form for the token of the tab.

import { token } from "./api";
import { el } from "./dom";
import { again, route } from "./links";
import { forget } from "./pages/lists";

/** The id of the element that says why another token is needed. */
export const TOKEN_REASON = "token-reason";

/** Creates the form. `isRefused` is whether the element of the reason is about the token of this tab. */
export function tokenForm(isRefused: boolean): HTMLElement {
  const input = el("input", {
    id: "token",
    type: "password",
    autocomplete: "off",
    spellcheck: "false",
    "aria-describedby": isRefused ? `${TOKEN_REASON} token-help` : "token-help",
    "aria-invalid": isRefused && "true",
  });
  const use = (value: string) => {
    token.set(value.trim());
    forget();
    if (location.hash === route("token")) location.hash = "#/";
    else again();
  };
  return el("form", {
    class: "token",
    submit: (event) => {
      event.preventDefault();
      use(input.value);
    },
  },
    el("label", { for: "token" }, "Token"),
    el("div", { class: "token-line" }, input, el("button", { type: "submit" }, "Use it"),
      token.get() !== "" && el("button", { type: "button", click: () => use("") }, "Forget it")),
    el("p", { id: "token-help", class: "quiet" }, "It stays in this tab and is sent to this node only. The browser forgets it when the tab closes."));
}

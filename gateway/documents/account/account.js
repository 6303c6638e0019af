"use strict";

// The page behind a link in a message. The token is in the fragment of the address, which browsers
// send to no server. Nothing is used up before the visitor presses a button, because programs that
// check messages open links too.

const TEXTS = {
  en: {
    email: "E-mail address",
    name: "Your name (optional)",
    password: "New password",
    rule: "At least 10 characters. Several words that do not belong together are good.",
    renew: "Send me a new link",
    incomplete: "Open the whole link of the message.",
    failed: "This did not work. Try again in a moment.",
    forgotten: { title: "Forgotten password", submit: "Send me a link" },
    password_page: {
      title: "Set a new password",
      submit: "Set the password",
      done: "The password is set. You can sign in now.",
    },
    address: {
      title: "Confirm your e-mail address",
      submit: "Confirm the address",
      done: "The address is confirmed.",
    },
    invitation: {
      title: "Accept the invitation",
      submit: "Accept the invitation",
      done: "Your account is ready. You can sign in now.",
    },
    sent: "We have sent a link to your address, if an account has it.",
    link_expired: "This link has expired.",
    link_used: "This link was used already.",
    link_replaced: "A newer link was sent. Open the one in the newest message.",
    link_withdrawn: "This link was withdrawn.",
    link_not_found: "This link is not valid.",
    email_taken: "Another account has this address meanwhile.",
    too_many_attempts: "There were too many attempts. Wait before you try again.",
  },
  de: {
    email: "E-Mail-Adresse",
    name: "Ihr Name (freiwillig)",
    password: "Neues Passwort",
    rule: "Mindestens 10 Zeichen. Gut sind mehrere Wörter, die nicht zusammengehören.",
    renew: "Neuen Link senden",
    incomplete: "Öffnen Sie den ganzen Link der Nachricht.",
    failed: "Das hat nicht funktioniert. Versuchen Sie es gleich noch einmal.",
    forgotten: { title: "Passwort vergessen", submit: "Link senden" },
    password_page: {
      title: "Neues Passwort setzen",
      submit: "Passwort setzen",
      done: "Das Passwort ist gesetzt. Sie können sich jetzt anmelden.",
    },
    address: {
      title: "Bestätigen Sie Ihre E-Mail-Adresse",
      submit: "Adresse bestätigen",
      done: "Die Adresse ist bestätigt.",
    },
    invitation: {
      title: "Einladung annehmen",
      submit: "Einladung annehmen",
      done: "Ihr Konto ist bereit. Sie können sich jetzt anmelden.",
    },
    sent: "Wir haben einen Link an Ihre Adresse gesendet, wenn es dafür ein Konto gibt.",
    link_expired: "Dieser Link ist abgelaufen.",
    link_used: "Dieser Link wurde bereits verwendet.",
    link_replaced: "Ein neuerer Link wurde gesendet. Öffnen Sie den in der neuesten Nachricht.",
    link_withdrawn: "Dieser Link wurde zurückgezogen.",
    link_not_found: "Dieser Link ist nicht gültig.",
    email_taken: "Inzwischen hat ein anderes Konto diese Adresse.",
    too_many_attempts: "Das waren zu viele Versuche. Warten Sie, bevor Sie es noch einmal versuchen.",
  },
};

const PAGES = {
  "/account/password": {
    texts: "password_page",
    path: "/api/auth/password-reset/confirm",
    fields: ["password"],
  },
  "/account/address": { texts: "address", path: "/api/auth/address/confirm", fields: [] },
  "/account/invitation": {
    texts: "invitation",
    path: "/api/auth/invitation/accept",
    fields: ["name", "password"],
  },
};
// Without a token the page of passwords requests a link.
const FORGOTTEN = { texts: "forgotten", path: "/api/auth/password-reset", fields: ["email"] };

const language = navigator.language.toLowerCase().startsWith("de") ? "de" : "en";
const texts = TEXTS[language];
const token = new URLSearchParams(location.hash.slice(1)).get("token");
const element = (id) => document.getElementById(id);

function pageOf(path) {
  return token === null && path === "/account/password" ? FORGOTTEN : PAGES[path];
}

async function send(path, body) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    credentials: "omit",
  });
  return { ok: response.ok, answer: await response.json() };
}

function explain(answer) {
  return texts[answer.code] ?? answer.detail ?? texts.failed;
}

async function submit(page, path, body) {
  element("submit").disabled = element("renew").disabled = true;
  element("status").textContent = "";
  try {
    const { ok, answer } = await send(path, body);
    element("form").hidden = ok || answer.code.startsWith("link_");
    element("renew").hidden = ok || answer.code !== "link_expired";
    const done = page.texts === "forgotten" || path.endsWith("/renew") ? texts.sent : null;
    element("status").textContent = ok ? (done ?? texts[page.texts].done) : explain(answer);
  } catch {
    element("status").textContent = texts.failed;
  } finally {
    element("submit").disabled = element("renew").disabled = false;
  }
}

function start() {
  const page = pageOf(location.pathname);
  document.documentElement.lang = language;
  document.title = element("title").textContent = texts[page.texts].title;
  element("submit").textContent = texts[page.texts].submit;
  for (const node of document.querySelectorAll("[data-text]")) {
    node.textContent = texts[node.dataset.text];
  }
  // The token does not stay in the browser's history.
  history.replaceState(null, "", location.pathname);
  if (token === null && page !== FORGOTTEN) {
    element("status").textContent = texts.incomplete;
    return;
  }
  for (const field of page.fields) {
    element(`${field}-field`).hidden = false;
    element(field).required = field !== "name";
  }
  element("form").hidden = false;
  element("form").addEventListener("submit", (event) => {
    event.preventDefault();
    const body = page === FORGOTTEN ? {} : { token };
    for (const field of page.fields) {
      const value = element(field).value;
      if (value !== "") body[field] = value;
    }
    submit(page, page.path, body);
  });
  element("renew").addEventListener("click", () => {
    submit(page, "/api/auth/links/renew", { token });
  });
}

start();

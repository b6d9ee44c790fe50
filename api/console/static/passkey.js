// Passkeys (WebAuthn): asks the browser when the form is sent, and sends what it answers.
// The page offers a code as well; this only adds to it.

const field = document.querySelector("[data-passkey]");
const button = document.querySelector("[data-passkey-start]");
const says = document.querySelector("[data-passkey-says]");

const fromBase64url = (text) =>
  Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (letter) => letter.charCodeAt(0));

const toBase64url = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

function opened(options) {
  const made = { ...options, challenge: fromBase64url(options.challenge) };
  if (options.user) made.user = { ...options.user, id: fromBase64url(options.user.id) };
  for (const list of ["allowCredentials", "excludeCredentials"]) {
    if (options[list]) made[list] = options[list].map((one) => ({ ...one, id: fromBase64url(one.id) }));
  }
  return made;
}

function written(credential) {
  const response = {};
  for (const name of ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"]) {
    if (credential.response[name]) response[name] = toBase64url(credential.response[name]);
  }
  if (credential.response.getTransports) response.transports = credential.response.getTransports();
  return JSON.stringify({
    id: credential.id,
    rawId: toBase64url(credential.rawId),
    type: credential.type,
    authenticatorAttachment: credential.authenticatorAttachment ?? undefined,
    clientExtensionResults: credential.getClientExtensionResults(),
    response,
  });
}

async function ask() {
  const publicKey = opened(JSON.parse(field.dataset.options));
  const kind = field.dataset.passkey;
  return kind === "create" ? navigator.credentials.create({ publicKey }) : navigator.credentials.get({ publicKey });
}

if (field && button && window.PublicKeyCredential) {
  button.disabled = false;
  says.textContent = "";
  field.form.addEventListener("submit", async (event) => {
    if (field.value) return;
    event.preventDefault();
    button.disabled = true;
    says.textContent = "Your browser asks for the passkey.";
    try {
      field.value = written(await ask());
      field.form.submit();
    } catch (error) {
      button.disabled = false;
      says.textContent =
        error.name === "SecurityError"
          ? "Passkeys work only where the console is reached by a name, such as localhost, and not by a number."
          : error.name === "InvalidStateError"
            ? "This device holds a passkey of yours already."
            : "It was cancelled or took too long; try again.";
    }
  });
}

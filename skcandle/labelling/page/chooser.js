// The dialog in which a class is chosen by its first letters: the combobox pattern of WAI-ARIA.

const MAX_SHOWN = 100;
const dialog = document.getElementById("chooser");
const input = document.getElementById("chooser-input");
const list = document.getElementById("chooser-list");

let names = [];
let resolve = () => {};

// The server also tells apart names such as "ice_cream" and "Ice cream" only by their words.
const simplified = (name) =>
  name.normalize("NFC").replace(/[_\s]+|(?<=\p{L})-(?=\p{L})/gu, " ").trim().toLowerCase();

// Opens the dialog. The promise becomes the chosen or new name, or null if there is none.
export function chooseClass(title, classNames, typed = "") {
  names = classNames;
  document.getElementById("chooser-title").textContent = title;
  input.value = typed;
  dialog.showModal();
  input.focus();
  showMatches();
  return new Promise((fulfil) => (resolve = fulfil));
}

function finish(name) {
  dialog.close();
  resolve(name);
}

// The same name first, then names that begin with the text, names in which a word does, the rest.
function matches(text) {
  const rank = (name) =>
    [name === text, name.startsWith(text), name.includes(` ${text}`), name.includes(text)].indexOf(true);
  return names
    .map((name) => ({ name, rank: rank(simplified(name)) }))
    .filter((match) => match.rank >= 0)
    .sort((a, b) => a.rank - b.rank || a.name.localeCompare(b.name))
    .map((match) => match.name);
}

function showMatches() {
  const text = simplified(input.value);
  const options = matches(text).slice(0, MAX_SHOWN).map((name) => option(name, name));
  if (text && !names.some((name) => simplified(name) === text)) {
    const name = input.value.trim();
    options.push(option(name, `New class “${name}”`, "new"));
  }
  options.forEach((each, position) => (each.id = `option-${position}`));
  list.replaceChildren(...options);
  activate(options[0]);
}

function option(name, text, kind = "") {
  const element = document.createElement("li");
  element.role = "option";
  element.className = kind;
  element.dataset.name = name;
  element.textContent = text;
  return element;
}

function activate(option) {
  for (const each of list.children) each.ariaSelected = String(each === option);
  input.setAttribute("aria-activedescendant", option?.id ?? "");
  option?.scrollIntoView({ block: "nearest" });
}

input.addEventListener("input", showMatches);
input.addEventListener("keydown", (event) => {
  const active = list.querySelector('[aria-selected="true"]');
  if (event.isComposing || !active) return;
  if (event.key === "ArrowDown") activate(active.nextElementSibling ?? list.firstElementChild);
  else if (event.key === "ArrowUp") activate(active.previousElementSibling ?? list.lastElementChild);
  else if (event.key === "Enter") finish(active.dataset.name);
  else return;
  event.preventDefault();
});
list.addEventListener("mousedown", (event) => event.preventDefault()); // the input keeps the focus
list.addEventListener("click", (event) => {
  const chosen = event.target.closest("li");
  if (chosen) finish(chosen.dataset.name);
});
document.getElementById("chooser-cancel").addEventListener("click", () => finish(null));
dialog.addEventListener("cancel", () => resolve(null)); // after Escape

// The dialog in which a class is chosen by its first letters: the combobox pattern of WAI-ARIA.

const MAX_SHOWN = 100;
const dialog = document.getElementById("chooser");
const input = document.getElementById("chooser-input");
const list = document.getElementById("chooser-list");

let names = [];
let active = 0;
let finish = () => {};

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
  return new Promise((resolve) => {
    finish = (name) => {
      finish = () => {};
      dialog.close();
      resolve(name);
    };
  });
}

// The same name first, then names that begin with the text, names in which a word does, the rest.
function matches(text) {
  const rank = (name) => {
    if (name === text) return 0;
    if (name.startsWith(text)) return 1;
    if (name.includes(` ${text}`)) return 2;
    return name.includes(text) ? 3 : 4;
  };
  return names
    .map((name) => ({ name, rank: rank(simplified(name)) }))
    .filter((match) => match.rank < 4)
    .sort((a, b) => a.rank - b.rank || a.name.localeCompare(b.name))
    .map((match) => match.name);
}

function showMatches() {
  const text = simplified(input.value);
  const options = matches(text).slice(0, MAX_SHOWN).map((name) => option(name, name));
  if (text && !names.some((name) => simplified(name) === text)) {
    const name = input.value.trim();
    const added = option(name, `New class “${name}”`);
    added.className = "new";
    options.push(added);
  }
  options.forEach((each, position) => (each.id = `option-${position}`));
  list.replaceChildren(...options);
  activate(0);
}

function option(name, text) {
  const element = document.createElement("li");
  element.setAttribute("role", "option");
  element.dataset.name = name;
  element.textContent = text;
  return element;
}

function activate(position) {
  const options = [...list.children];
  active = Math.max(0, Math.min(position, options.length - 1));
  options.forEach((each, i) => each.setAttribute("aria-selected", String(i === active)));
  if (options.length) {
    input.setAttribute("aria-activedescendant", options[active].id);
    options[active].scrollIntoView({ block: "nearest" });
  } else {
    input.removeAttribute("aria-activedescendant");
  }
}

input.addEventListener("input", showMatches);
input.addEventListener("keydown", (event) => {
  if (event.isComposing) return;
  const last = list.children.length - 1;
  if (event.key === "ArrowDown") activate(active === last ? 0 : active + 1);
  else if (event.key === "ArrowUp") activate(active === 0 ? last : active - 1);
  else if (event.key === "Enter" && last >= 0) finish(list.children[active].dataset.name);
  else return;
  event.preventDefault();
});
list.addEventListener("mousedown", (event) => event.preventDefault()); // the input keeps the focus
list.addEventListener("click", (event) => {
  const chosen = event.target.closest("li");
  if (chosen) finish(chosen.dataset.name);
});
document.getElementById("chooser-cancel").addEventListener("click", () => finish(null));
dialog.addEventListener("close", () => finish(null)); // also after Escape

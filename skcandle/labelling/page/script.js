// The page of a labelling session. All labels and answers are on the server; this page shows some
// photos and sends what a person says about them.

import { chooseClass } from "./chooser.js";
import { drawCurve, percent } from "./curve.js";

const UNLABELLED = -1, NONE = -2, SKIPPED = -3; // labels that are not names of classes
const PER_PAGE = 36;
const MAX_PHOTOS = 2000; // on the screen; the limit of the server
const POLL_MS = 2000;
const RETRY_MS = 3000; // until a photo that did not load is requested once more
const byId = (id) => document.getElementById(id);
const groups = byId("groups");

let view = { by: "help" }; // which photos are shown, as for LabellingSession.next
let order = []; // the indices of the photos on the screen
let current = null; // the index of the photo with the frame, to which keys apply
let anchor = null; // where a range of marked photos begins
let version = null;
let classes = [];
const photos = new Map(); // what the server said about each photo, by index
const cards = new Map();
const marked = new Set();
const pending = new Set(); // photos whose labels are not yet on disk

// Requests

async function request(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The server does not answer. Start the same command again; no label is lost.");
  }
  if (response.ok) return response.json();
  if (response.status !== 403) throw new Error(await response.text());
  throw new Error("The server was started again. Open the address that it printed; no label is lost.");
}

function post(path, content = {}) {
  return request(path, { method: "POST", body: JSON.stringify(content) });
}

// Requests go out one after another, so that answers arrive in the order of the actions.
let queue = Promise.resolve();
function enqueue(work) {
  queue = queue.then(work).catch(alarm);
  return queue;
}

function alarm(error) {
  byId("status").textContent = "";
  if (byId("alert").textContent !== error.message) byId("alert").textContent = error.message;
}

let statusTimer = 0;
function say(text) {
  byId("alert").textContent = "";
  byId("status").textContent = text;
  clearTimeout(statusTimer);
  statusTimer = setTimeout(() => (byId("status").textContent = ""), 6000);
}

// What the server says

function load(newView, focus = true) {
  return enqueue(async () => {
    const answer = await post("photos", { ...newView, n: PER_PAGE });
    view = newView;
    order = answer.photos.map((photo) => photo.index);
    photos.clear();
    cards.clear();
    marked.clear();
    current = anchor = order[0] ?? null;
    update(answer);
    showView(answer.photos.length === PER_PAGE);
    scrollTo(0, Math.min(scrollY, groups.offsetTop));
    if (focus) focusCard(current);
    refreshClasses();
  });
}

function loadMore() {
  return enqueue(async () => {
    const answer = await post("photos", { ...view, n: order.length + PER_PAGE });
    const added = answer.photos.map((photo) => photo.index).filter((index) => !photos.has(index));
    order = order.concat(added);
    update(answer);
    showView(added.length >= PER_PAGE);
    if (added.length) moveTo(added[0]);
  });
}

function update(answer) {
  for (const photo of answer.photos) photos.set(photo.index, photo);
  version = answer.version;
  byId("undo").disabled = !answer.can_undo;
  byId("redo").disabled = !answer.can_redo;
  showProgress(answer.progress);
  showPhotos();
}

// The counts of all classes need the answers for all photos, so what is on the screen comes first.
let classesTimer = 0;
function refreshClasses() {
  clearTimeout(classesTimer);
  classesTimer = setTimeout(() => post("classes").then(showClasses).catch(alarm), 100);
}

// Another window may have changed the labels, or the server may have stopped.
let isLost = false;
async function poll() {
  try {
    if (document.hidden) return;
    const latest = await request("version");
    if (isLost) byId("alert").textContent = "";
    isLost = false;
    if (version !== null && latest !== version) {
      enqueue(async () => update(await post("answers", { on_screen: order })));
      refreshClasses();
    }
  } catch (error) {
    isLost = true;
    alarm(error);
  } finally {
    setTimeout(poll, POLL_MS);
  }
}

// Labels

const isLabelled = (photo) => photo.label !== UNLABELLED && photo.label !== SKIPPED;

function targets() {
  if (marked.size) return order.filter((index) => marked.has(index));
  return current === null ? [] : [current];
}

// Gives each photo its answer; all are undone together.
function label(indices, answers) {
  if (!indices.length) return;
  const shown = indices.map((index) => photos.get(index).answer);
  for (const index of indices) pending.add(index);
  byId("undo").disabled = false; // an undo waits in the queue
  const next = nextToLabel(indices);
  unmarkAll();
  enqueue(async () => {
    try {
      const content = { photos: indices, answer: answers, shown, order: view.by, on_screen: order };
      update(await post("label", content));
      const names = [...new Set(answers)];
      for (const name of names) {
        const isNew = typeof name === "string" && !classNames().includes(name);
        if (isNew) classes.push({ name }); // its counts follow with those of the others
      }
      say(`${plural(indices.length, "photo")}: ${names.map(nameOf).join(", ")}`);
    } catch (error) {
      moveTo(indices[0]);
      throw error;
    } finally {
      for (const index of indices) pending.delete(index);
      showPhotos();
    }
    refreshClasses();
    if (isToLabel() && order.every((index) => photos.get(index).label !== UNLABELLED)) {
      load(view, groups.contains(document.activeElement));
    }
  });
  moveTo(next);
}

const labelAll = (indices, answer) => label(indices, indices.map(() => answer));

// Confirms the answers that are shown.
function confirm(indices) {
  const open = indices.map((index) => photos.get(index)).filter(
    (photo) => photo.answer !== null && !isLabelled(photo) && !pending.has(photo.index),
  );
  label(open.map((photo) => photo.index), open.map((photo) => photo.answer));
  if (!open.length) moveTo(nextToLabel(indices));
}

async function choose(indices, typed = "") {
  if (!indices.length) return;
  const name = await chooseClass(`Class of ${plural(indices.length, "photo")}`, classNames(), typed);
  focusCard(current);
  if (name !== null) labelAll(indices, name);
}

async function addClass() {
  const name = await chooseClass("New class", classNames());
  if (name !== null && !classNames().includes(name)) {
    enqueue(async () => {
      update(await post("add_class", { name, on_screen: order }));
      say(`New class: ${name}`);
      refreshClasses();
    });
  }
}

function takeBack(path, done) {
  enqueue(async () => {
    const answer = await post(path, { on_screen: order });
    update(answer);
    if (answer.changed === null) return;
    say(`${done}: ${answer.changed.length ? plural(answer.changed.length, "photo") : "the new class"}`);
    moveTo(answer.changed.find((index) => photos.has(index)) ?? current);
    refreshClasses();
  });
}

function saveModel() {
  byId("save-model").disabled = true;
  say("Writing the model …");
  post("save_model")
    .then((answer) => say(`Written: ${answer.path}`))
    .catch(alarm)
    .finally(() => (byId("save-model").disabled = false));
}

// Photos on the screen

// Whether the view lists photos without a label, which are replaced once they all have one.
const isToLabel = () => ["help", "doubt", "none", "random", "class"].includes(view.by);

const OTHER_LABELS = new Map([[UNLABELLED, "no label"], [NONE, "none of these"], [SKIPPED, "skipped"]]);
const nameOf = (label) => OTHER_LABELS.get(label) ?? label;

function groupOf(photo) {
  if (photo.label !== UNLABELLED) return photo.label;
  return photo.answer;
}

function showPhotos() {
  const focused = groups.contains(document.activeElement) ? cards.get(current) : null;
  const top = focused?.getBoundingClientRect().top;
  const isGrouped = byId("grouped").checked && !byId("grouped").disabled;
  const members = new Map();
  for (const index of order) {
    const key = isGrouped ? groupOf(photos.get(index)) : undefined;
    members.set(key, [...(members.get(key) ?? []), index]);
  }
  groups.replaceChildren(...[...members].map(([key, indices]) => groupElement(key, indices)));
  showMarks();
  if (focused?.isConnected) {
    focusCard(current, true);
    scrollBy(0, focused.getBoundingClientRect().top - top); // the others move, this one stays
  }
}

function groupElement(key, indices) {
  const section = byId("group-template").content.firstElementChild.cloneNode(true);
  const title = key === null ? "No answer yet" : nameOf(key);
  if (key === undefined) {
    section.querySelector(".group-head").remove();
    section.setAttribute("aria-label", "Photos");
  } else {
    const [count, button] = section.querySelectorAll("span, button");
    const nLabelled = indices.filter((index) => isLabelled(photos.get(index))).length;
    section.setAttribute("aria-label", title);
    section.querySelector("bdi").textContent = title;
    count.textContent = plural(indices.length, "photo") + (nLabelled ? `, ${nLabelled} labelled` : "");
    button.setAttribute("aria-label", `Mark all photos of ${title}`);
    count.hidden = button.hidden = indices.length === 1;
  }
  section.querySelector("ul").append(...indices.map(cardElement));
  return section;
}

function cardElement(index) {
  const photo = photos.get(index);
  let card = cards.get(index);
  if (!card) {
    card = byId("card-template").content.firstElementChild.cloneNode(true);
    card.dataset.index = index;
    card.querySelector("img").src = `photos/${index}/small`;
    card.querySelector(".file").textContent = card.querySelector(".file").title = photo.name;
    cards.set(index, card);
  }
  const isOpen = photo.label === UNLABELLED;
  const answer = photo.answer === null ? "no answer yet" : photo.answer;
  const share = photo.answer === null ? "" : percent(photo.probability);
  const seen = isOpen ? share : photo.label === photo.answer ? "" : `answer: ${answer} ${share}`;
  card.classList.toggle("labelled", !isOpen);
  card.classList.toggle("pending", pending.has(index));
  card.querySelector(".name bdi").textContent = isOpen ? answer : `✓ ${nameOf(photo.label)}`;
  card.querySelector(".name small").textContent = seen;
  card.querySelector(".confirm").hidden = !isOpen || photo.answer === null;
  card.querySelector(".confirm").setAttribute("aria-label", `Confirm ${answer}`);
  card.querySelector("input").setAttribute(
    "aria-label",
    isOpen ? `${photo.name}, answer: ${answer} ${share}` : `${photo.name}, label: ${nameOf(photo.label)}`,
  );
  return card;
}

function showMarks() {
  for (const [index, card] of cards) {
    card.classList.toggle("marked", marked.has(index));
    card.querySelector("input").checked = marked.has(index);
    card.querySelector("input").tabIndex = index === current ? 0 : -1;
  }
  byId("actions").hidden = !marked.size;
  byId("n-marked").textContent = `${marked.size} marked`;
  for (const action of ["similar", "enlarge"]) {
    byId("actions").querySelector(`[data-action="${action}"]`).hidden = marked.size !== 1;
  }
}

// The cards from top to bottom; groups change their order.
const inOrder = () => [...groups.querySelectorAll(".card")].map((card) => Number(card.dataset.index));

function nextToLabel(indices) {
  const all = inOrder();
  const from = all.indexOf(indices.at(-1));
  const isOpen = (index) => photos.get(index).label === UNLABELLED && !pending.has(index);
  return [...all.slice(from + 1), ...all.slice(0, from)].find(isOpen) ?? current;
}

function moveTo(index) {
  anchor = index;
  focusCard(index);
}

function focusCard(index, stay = false) {
  if (!cards.has(index)) return;
  current = index;
  const card = cards.get(index);
  card.querySelector("input").focus({ preventScroll: true });
  if (!stay) card.scrollIntoView({ block: "nearest" });
  showMarks();
}

function mark(indices, isMarked = true) {
  for (const index of indices) isMarked ? marked.add(index) : marked.delete(index);
  showMarks();
}

function unmarkAll() {
  marked.clear();
  showMarks();
}

function markRange(to) {
  const all = inOrder();
  const [first, last] = [all.indexOf(anchor), all.indexOf(to)].sort((a, b) => a - b);
  marked.clear();
  mark(all.slice(Math.max(first, 0), last + 1));
}

// The rest of the page

function showView(hasMore) {
  const select = byId("by");
  const isRanking = ["image", "words"].includes(view.by);
  const named = nameOf(view.class_name);
  select.querySelector('[value="class"]').textContent = `what is answered “${named}”`;
  select.querySelector('[value="labelled"]').textContent =
    view.by === "labelled" && view.class_name !== undefined ? `what is labelled “${named}”` : "what is labelled";
  select.querySelector('[value="words"]').textContent = `what is like “${view.words}”`;
  for (const option of select.options) {
    if (["class", "image", "words"].includes(option.value)) option.hidden = option.value !== view.by;
  }
  select.value = view.by;
  if (view.by !== "words") byId("words").value = "";
  byId("grouped").disabled = isRanking;
  byId("more").hidden = !hasMore || order.length + PER_PAGE > MAX_PHOTOS;
  byId("empty").hidden = order.length > 0;
  byId("empty").textContent = isToLabel() ? "No photo without a label is left here." : "There is no such photo.";
  showPhotos();
  showPressed();
}

function showProgress(progress) {
  const { accuracy, interval, n_compared: n } = progress;
  byId("accuracy").replaceChildren();
  if (accuracy === null) {
    byId("accuracy").textContent = "Confirm or correct an answer to see it.";
  } else {
    const value = document.createElement("strong");
    value.textContent = percent(accuracy);
    const [low, high] = interval.map(percent);
    const bias = progress.drawn_at_random
      ? ""
      : " Photos in random order would give an unbiased estimate.";
    byId("accuracy").append(value, `between ${low} and ${high} (95 % interval), from ${plural(n, "label")}.${bias}`);
  }
  drawCurve(byId("curve"), progress.curve);
}

function showClasses(content) {
  classes = content.classes;
  document.title = `Label ${content.title}`;
  byId("title").textContent = content.title;
  const nLabelled = content.n_images - content.n_unlabelled - content.n_skipped;
  byId("progress").textContent =
    `${nLabelled.toLocaleString()} of ${plural(content.n_images, "photo")} labelled` +
    (content.n_skipped ? `, ${content.n_skipped.toLocaleString()} skipped` : "") +
    (content.n_problems ? `, ${plural(content.n_problems, "file")} unreadable` : "");
  const rows = classes.map(({ name, n_labelled, n_answered }) => [name, name, n_labelled, n_answered]);
  rows.push(["None of these", NONE, content.n_none, null], ["Skipped", SKIPPED, content.n_skipped, null]);
  const focused = byId("classes").contains(document.activeElement) ? document.activeElement : null;
  byId("classes").replaceChildren(...rows.map(classRow));
  if (focused) {
    const { label } = focused.closest("tr").dataset;
    const row = [...byId("classes").rows].find((each) => each.dataset.label === label);
    row?.querySelector(`[data-by="${focused.dataset.by}"]`)?.focus({ preventScroll: true });
  }
  showPressed();
}

function classRow([text, label, nLabelled, nAnswered]) {
  const row = byId("row-template").content.firstElementChild.cloneNode(true);
  const [labelled, answered] = row.querySelectorAll("button");
  row.querySelector("bdi").textContent = text;
  row.dataset.label = JSON.stringify(label);
  labelled.textContent = nLabelled.toLocaleString();
  labelled.disabled = nLabelled === 0;
  labelled.setAttribute("aria-label", `${text}: show ${nLabelled} labelled`);
  if (nAnswered === null) answered.remove();
  else {
    answered.textContent = nAnswered.toLocaleString();
    answered.disabled = nAnswered === 0;
    answered.setAttribute("aria-label", `${text}: show ${nAnswered} answered`);
  }
  return row;
}

function showPressed() {
  for (const button of byId("classes").querySelectorAll("button")) {
    const isShown =
      button.dataset.by === view.by &&
      button.closest("tr").dataset.label === JSON.stringify(view.class_name);
    button.setAttribute("aria-pressed", String(isShown));
  }
}

function showSimilar(index) {
  byId("by").querySelector('[value="image"]').textContent = `what is like ${photos.get(index).name}`;
  load({ by: "image", image: index });
}

function enlarge(index) {
  byId("enlarged-photo").src = `photos/${index}/large`;
  byId("enlarged-name").textContent = photos.get(index).name;
  byId("enlarged").showModal();
}

const classNames = () => classes.map((each) => each.name);
const plural = (n, noun) => `${n.toLocaleString()} ${noun}${n === 1 ? "" : "s"}`;

// Mouse and touch

const actions = {
  confirm: () => confirm(targets()),
  choose: () => choose(targets()),
  none: () => labelAll(targets(), NONE),
  skip: () => labelAll(targets(), SKIPPED),
  remove: () => labelAll(targets(), UNLABELLED),
  similar: () => showSimilar(targets()[0]),
  enlarge: () => enlarge(targets()[0]),
  unmark: unmarkAll,
};

let wasDragged = false;
groups.addEventListener("click", (event) => {
  const card = event.target.closest(".card");
  if (event.target.closest(".group-head button")) {
    mark([...event.target.closest(".group").querySelectorAll(".card")].map((each) => Number(each.dataset.index)));
  } else if (card && !wasDragged) {
    const index = Number(card.dataset.index);
    const these = marked.has(index) ? targets() : [index];
    if (event.target.closest(".confirm")) confirm(these);
    else if (event.target.closest(".name")) choose(these);
    else if (event.target.matches("input")) return; // the keyboard: see "change"
    else if (event.shiftKey) markRange(index);
    else mark([(anchor = index)], !marked.has(index));
    if (event.target.closest(".photo")) focusCard(index, true);
  }
});
groups.addEventListener("change", (event) => {
  anchor = Number(event.target.closest(".card").dataset.index);
  mark([anchor], event.target.checked);
});
groups.addEventListener("focusin", (event) => {
  const card = event.target.closest(".card");
  if (card) current = Number(card.dataset.index);
});
groups.addEventListener("error", (event) => {
  const image = event.target;
  image.alt = "This photo cannot be read.";
  image.parentElement.classList.add("unreadable");
  if (!image.dataset.retried) setTimeout(() => (image.src = image.src), RETRY_MS);
  image.dataset.retried = true;
}, true);
groups.addEventListener("load", (event) => {
  event.target.alt = "";
  event.target.parentElement.classList.remove("unreadable");
}, true);

// A frame that is drawn with the mouse marks the photos that it touches.
groups.addEventListener("pointerdown", (down) => {
  if (down.pointerType !== "mouse" || down.button !== 0 || down.target.closest("button")) return;
  const before = down.shiftKey || down.ctrlKey || down.metaKey ? [...marked] : [];
  const frame = document.createElement("div");
  frame.id = "frame";
  const start = { x: down.pageX, y: down.pageY };

  function move(event) {
    const [left, right] = [start.x, event.pageX].sort((a, b) => a - b);
    const [top, bottom] = [start.y, event.pageY].sort((a, b) => a - b);
    if (!wasDragged && right - left + bottom - top < 8) return;
    wasDragged = true;
    groups.setPointerCapture(down.pointerId);
    document.body.append(frame);
    Object.assign(frame.style, {
      left: `${left}px`, top: `${top}px`, width: `${right - left}px`, height: `${bottom - top}px`,
    });
    marked.clear();
    mark(before);
    mark(order.filter((index) => {
      const box = cards.get(index).getBoundingClientRect();
      return box.left + scrollX < right && box.right + scrollX > left
        && box.top + scrollY < bottom && box.bottom + scrollY > top;
    }));
  }
  function up() {
    groups.removeEventListener("pointermove", move);
    frame.remove();
    setTimeout(() => (wasDragged = false)); // after the click that ends the drag
    if (wasDragged && marked.size) focusCard(targets()[0], true);
  }
  groups.addEventListener("pointermove", move);
  groups.addEventListener("pointerup", up, { once: true });
  groups.addEventListener("pointercancel", up, { once: true });
});

byId("actions").addEventListener("click", (event) => actions[event.target.dataset.action]?.());
byId("classes").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) load({ by: button.dataset.by, class_name: JSON.parse(button.closest("tr").dataset.label) });
});
byId("by").addEventListener("change", (event) => load({ by: event.target.value }, false));
byId("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const words = byId("words").value.trim();
  load(words ? { by: "words", words } : { by: "help" });
});
byId("grouped").addEventListener("change", showPhotos);
byId("reload").addEventListener("click", () => load(view));
byId("more").addEventListener("click", loadMore);
byId("undo").addEventListener("click", () => takeBack("undo", "Undone"));
byId("redo").addEventListener("click", () => takeBack("redo", "Done again"));
byId("save-model").addEventListener("click", saveModel);
byId("new-class").addEventListener("click", addClass);
byId("show-keys").addEventListener("click", () => byId("keys").showModal());
for (const id of ["keys", "enlarged"]) byId(`${id}-close`).addEventListener("click", () => byId(id).close());

// Keyboard

const keys = {
  "Enter": actions.confirm,
  "-": actions.none,
  ".": actions.skip,
  "Delete": actions.remove,
  "Backspace": actions.remove,
  "F2": actions.choose,
  "+": () => enlarge(current),
  "=": () => showSimilar(current),
  "Escape": unmarkAll,
};

groups.addEventListener("keydown", (event) => {
  if (!event.target.matches("input") || event.altKey) return;
  const isCommand = event.ctrlKey || event.metaKey;
  const to = isCommand ? null : neighbour(event.key);
  if (to !== null) {
    if (event.shiftKey) markRange(to);
    else anchor = to;
    focusCard(to);
  } else if (isCommand && event.key === "a") mark(order);
  else if (!isCommand && event.key in keys) keys[event.key]();
  else if (!isCommand && /^[\p{L}\p{N}]$/u.test(event.key)) choose(targets(), event.key);
  else return;
  event.preventDefault();
});

document.addEventListener("keydown", (event) => {
  if (event.target.matches("input:not([type=checkbox])") || document.querySelector("dialog[open]")) return;
  const key = event.key.toLowerCase();
  const isCommand = event.ctrlKey || event.metaKey;
  if (isCommand && key === "z") byId(event.shiftKey ? "redo" : "undo").click();
  else if (isCommand && key === "y") byId("redo").click();
  else if (!isCommand && key === "/") byId("words").focus();
  else return;
  event.preventDefault();
});

// The card to which an arrow key goes, or null for other keys and at the edges.
function neighbour(key) {
  const all = inOrder();
  const at = all.indexOf(current);
  if (key === "ArrowRight") return all[at + 1] ?? null;
  if (key === "ArrowLeft") return all[at - 1] ?? null;
  if (key === "Home") return all[0];
  if (key === "End") return all.at(-1);
  if (key !== "ArrowDown" && key !== "ArrowUp") return null;
  const from = cards.get(current).getBoundingClientRect();
  const way = key === "ArrowDown" ? 1 : -1;
  let best = null, least = Infinity;
  for (const index of all) {
    const box = cards.get(index).getBoundingClientRect();
    const rows = way * (box.top - from.top);
    const distance = 100 * rows + Math.abs(box.left - from.left); // the nearest row counts most
    if (rows > from.height / 2 && distance < least) [best, least] = [index, distance];
  }
  return best;
}

byId("overview").open = matchMedia("(min-width: 52rem)").matches;
load(view);
setTimeout(poll, POLL_MS);

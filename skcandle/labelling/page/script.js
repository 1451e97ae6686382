// The page of a labelling session. All labels and answers are on the server; this page shows some
// photos and sends what a person says about them.

import { chooseClass } from "./chooser.js";
import { drawCurve, percent } from "./curve.js";

const UNLABELLED = -1, NONE = -2, SKIPPED = -3; // labels that are not names of classes
const OTHER_LABELS = new Map([[UNLABELLED, "no label"], [NONE, "none of these"], [SKIPPED, "skipped"]]);
const TO_LABEL = ["help", "doubt", "none", "random", "class"]; // views without labelled photos
const PER_PAGE = 36;
const MAX_PHOTOS = 2000; // on the screen; the limit of the server
const POLL_MS = 2000;
const RETRY_MS = 3000; // until a photo that did not load is requested once more

const byId = (id) => document.getElementById(id);
const on = (id, type, act) => byId(id).addEventListener(type, act);
const copyOf = (id) => byId(id).content.firstElementChild.cloneNode(true);
const plural = (n, noun) => `${n.toLocaleString()} ${noun}${n === 1 ? "" : "s"}`;
const nameOf = (label) => OTHER_LABELS.get(label) ?? label;
const groups = byId("groups");

let view = { by: "help" }; // which photos are shown, as for LabellingSession.next
let order = []; // the indices of the photos on the screen
let current = null; // the index of the photo with the frame, to which keys apply
let anchor = null; // where a range of marked photos begins
let state = { class_names: [] }; // the latest answer of the server
let counts = null; // of each class
const photos = new Map(); // what the server said about each photo, by index
const cards = new Map(); // the elements on the screen
const marked = new Set();
const pending = new Set(); // photos whose labels are not yet on disk

// Requests

async function request(path, content) {
  let response;
  try {
    response = await fetch(path, content && { method: "POST", body: JSON.stringify(content) });
  } catch {
    throw new Error("The server does not answer. Start the same command again; no label is lost.");
  }
  if (response.ok) return response.json();
  if (response.status !== 403) throw new Error(await response.text());
  throw new Error("The server was started again. Open the address that it printed; no label is lost.");
}

// Requests go out one after another, so that answers arrive in the order of the actions.
let queue = Promise.resolve();
const enqueue = (work) => (queue = queue.then(work).catch(alarm));

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

// Shows the photos of a view, or more of them.
function load(newView, { more = false, focus = true } = {}) {
  return enqueue(async () => {
    const shown = more ? order : [];
    const answer = await request("photos", { ...newView, n: shown.length + PER_PAGE });
    const added = answer.photos.map((photo) => photo.index).filter((index) => !shown.includes(index));
    view = newView;
    order = [...shown, ...added];
    if (!more) {
      cards.clear();
      marked.clear();
      current = anchor = order[0] ?? null;
    }
    byId("grouped").disabled = ["image", "words"].includes(view.by);
    byId("more").hidden = added.length < PER_PAGE || order.length + PER_PAGE > MAX_PHOTOS;
    update(answer);
    showView();
    if (!more) scrollTo(0, Math.min(scrollY, groups.offsetTop));
    if (focus && (added.length || !more)) moveTo(more ? added[0] : current);
    refreshCounts();
  });
}

function update(answer) {
  state = answer;
  for (const photo of answer.photos) photos.set(photo.index, photo);
  byId("undo").disabled = !answer.can_undo;
  byId("redo").disabled = !answer.can_redo;
  showAccuracy(answer.progress);
  showPhotos();
}

// The counts of all classes need the answers for all photos, so what is on the screen comes first.
let countsTimer = 0;
function refreshCounts() {
  clearTimeout(countsTimer);
  countsTimer = setTimeout(async () => {
    try {
      counts = await request("classes", {});
      showCounts();
    } catch (error) {
      alarm(error);
    }
  }, 100);
}

// Another window may have changed the labels, or the server may have stopped.
let isLost = false;
async function poll() {
  try {
    if (document.hidden) return;
    const version = await request("version");
    if (isLost) byId("alert").textContent = "";
    isLost = false;
    if (state.version !== undefined && version !== state.version) enqueue(() => change("answers"));
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

// Sends an action, and shows what follows from it.
async function change(path, content = {}) {
  const answer = await request(path, { ...content, on_screen: order });
  update(answer);
  refreshCounts();
  return answer.changed;
}

// Gives each photo its answer; all are undone together.
function label(indices, answers) {
  if (!indices.length) return;
  const shown = indices.map((index) => photos.get(index).answer);
  for (const index of indices) pending.add(index);
  byId("undo").disabled = false; // an undo waits in the queue
  const next = nextToLabel(indices);
  marked.clear();
  enqueue(async () => {
    try {
      await change("label", { indices, answer: answers, shown, order: view.by });
      say(`${plural(indices.length, "photo")}: ${[...new Set(answers)].map(nameOf).join(", ")}`);
    } catch (error) {
      moveTo(indices[0]);
      throw error;
    } finally {
      for (const index of indices) pending.delete(index);
      showMarks();
    }
    if (TO_LABEL.includes(view.by) && order.every((index) => photos.get(index).label !== UNLABELLED)) {
      load(view, { focus: groups.contains(document.activeElement) });
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
  const name = await chooseClass(`Class of ${plural(indices.length, "photo")}`, state.class_names, typed);
  focusCard(current);
  if (name !== null) labelAll(indices, name);
}

async function addClass() {
  const name = await chooseClass("New class", state.class_names);
  if (name === null || state.class_names.includes(name)) return;
  enqueue(async () => {
    await change("add_class", { name });
    say(`New class: ${name}`);
  });
}

function takeBack(path, done) {
  enqueue(async () => {
    const changed = await change(path);
    if (changed === null) return;
    say(`${done}: ${changed.length ? plural(changed.length, "photo") : "the new class"}`);
    moveTo(changed.find((index) => cards.has(index)) ?? current);
  });
}

async function saveModel() {
  byId("save-model").disabled = true;
  say("Writing the model …");
  try {
    say(`Written: ${(await request("save_model", {})).path}`);
  } catch (error) {
    alarm(error);
  }
  byId("save-model").disabled = false;
}

// Photos on the screen

function showPhotos() {
  const focused = groups.contains(document.activeElement) ? cards.get(current) : null;
  const top = focused?.getBoundingClientRect().top;
  const isGrouped = byId("grouped").checked && !byId("grouped").disabled;
  const keyOf = ({ label, answer }) => (label === UNLABELLED ? answer : label);
  const members = Map.groupBy(order, (index) => isGrouped ? keyOf(photos.get(index)) : undefined);
  groups.replaceChildren(...[...members].map(([key, indices]) => groupElement(key, indices)));
  showMarks();
  if (focused?.isConnected) {
    focusCard(current, true);
    scrollBy(0, focused.getBoundingClientRect().top - top); // the others move, this one stays
  }
}

function groupElement(key, indices) {
  const section = copyOf("group-template");
  const title = key === undefined ? "Photos" : key === null ? "No answer yet" : nameOf(key);
  const [name, count, button] = section.querySelectorAll("bdi, span, button");
  const nLabelled = indices.filter((index) => isLabelled(photos.get(index))).length;
  section.ariaLabel = name.textContent = title;
  count.textContent = plural(indices.length, "photo") + (nLabelled ? `, ${nLabelled} labelled` : "");
  button.ariaLabel = `Mark all photos of ${title}`;
  count.hidden = button.hidden = indices.length === 1;
  if (key === undefined) section.querySelector(".group-head").remove();
  section.querySelector("ul").append(...indices.map(cardElement));
  return section;
}

function cardElement(index) {
  const photo = photos.get(index);
  if (!cards.has(index)) cards.set(index, newCard(photo));
  const card = cards.get(index);
  const [box, name, note, confirm] = card.querySelectorAll("input, bdi, small, .confirm");
  const isOpen = photo.label === UNLABELLED;
  const answer = photo.answer ?? "no answer yet";
  const share = photo.answer === null ? "" : percent(photo.probability);
  card.classList.toggle("labelled", !isOpen);
  name.textContent = isOpen ? answer : `✓ ${nameOf(photo.label)}`;
  note.textContent = isOpen ? share : photo.label === photo.answer ? "" : `answer: ${answer} ${share}`;
  confirm.hidden = !isOpen || photo.answer === null;
  confirm.ariaLabel = `Confirm ${answer}`;
  box.ariaLabel = `${photo.name}, ` + (isOpen ? `answer: ${answer} ${share}` : `label: ${nameOf(photo.label)}`);
  return card;
}

function newCard({ index, name }) {
  const card = copyOf("card-template");
  card.dataset.index = index;
  card.querySelector("img").src = `photos/${index}/small`;
  card.querySelector(".file").textContent = card.querySelector(".file").title = name;
  return card;
}

function showMarks() {
  for (const [index, card] of cards) {
    const box = card.querySelector("input");
    card.classList.toggle("marked", marked.has(index));
    card.classList.toggle("pending", pending.has(index));
    box.checked = marked.has(index);
    box.tabIndex = index === current ? 0 : -1;
  }
  byId("actions").hidden = !marked.size;
  byId("n-marked").textContent = `${marked.size} marked`;
  for (const button of byId("actions").querySelectorAll(".of-one")) button.hidden = marked.size !== 1;
}

// The cards from top to bottom; groups change their order.
const indicesIn = (element) => [...element.querySelectorAll(".card")].map((card) => Number(card.dataset.index));

function nextToLabel(indices) {
  const all = indicesIn(groups);
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

function markOnly(indices) {
  marked.clear();
  mark(indices);
}

function markRange(to) {
  const all = indicesIn(groups);
  const [first, last] = [all.indexOf(anchor), all.indexOf(to)].sort((a, b) => a - b);
  markOnly(all.slice(Math.max(first, 0), last + 1));
}

// The rest of the page

function showView() {
  const named = nameOf(view.class_name);
  const special = {
    class: `what is answered “${named}”`,
    labelled: named && `what is labelled “${named}”`,
    words: `what is like “${view.words}”`,
    image: `what is like ${photos.get(view.image)?.name}`,
  }[view.by];
  byId("special").hidden = !special;
  byId("special").textContent = special;
  byId("by").value = special ? "" : view.by;
  if (view.by !== "words") byId("words").value = "";
  byId("empty").hidden = order.length > 0;
  byId("empty").textContent =
    TO_LABEL.includes(view.by) ? "No photo without a label is left here." : "There is no such photo.";
  showCounts();
}

function showAccuracy({ accuracy, interval, n_compared: n, drawn_at_random: isRandom, curve }) {
  byId("accuracy").textContent = "Confirm or correct an answer to see it.";
  if (accuracy !== null) {
    const value = document.createElement("strong");
    value.textContent = percent(accuracy);
    const [low, high] = interval.map(percent);
    const bias = isRandom ? "" : " Photos in random order would give an unbiased estimate.";
    byId("accuracy").replaceChildren(
      value, `between ${low} and ${high} (95 % interval), from ${plural(n, "label")}.${bias}`,
    );
  }
  drawCurve(byId("curve"), curve);
}

function showCounts() {
  if (!counts) return;
  document.title = `Label ${counts.title}`;
  byId("title").textContent = counts.title;
  const nLabelled = counts.n_images - counts.n_unlabelled - counts.n_skipped;
  byId("progress").textContent =
    `${nLabelled.toLocaleString()} of ${plural(counts.n_images, "photo")} labelled` +
    (counts.n_skipped ? `, ${counts.n_skipped.toLocaleString()} skipped` : "") +
    (counts.n_problems ? `, ${plural(counts.n_problems, "file")} unreadable` : "");
  const classes = counts.classes.map((each) => [each.name, each.name, each.n_labelled, each.n_answered]);
  classes.push(["None of these", NONE, counts.n_none], ["Skipped", SKIPPED, counts.n_skipped]);
  const { rows } = byId("classes"); // they stay, so that the focus stays
  while (rows.length < classes.length) byId("classes").append(copyOf("row-template"));
  while (rows.length > classes.length) byId("classes").lastElementChild.remove();
  classes.forEach(([text, label, ...numbers], i) => {
    rows[i].label = label;
    rows[i].querySelector("bdi").textContent = text;
    rows[i].querySelectorAll("button").forEach((button, column) => {
      const { by } = button.dataset;
      const n = numbers[column];
      button.hidden = n === undefined;
      button.disabled = !n;
      button.textContent = n?.toLocaleString();
      button.ariaLabel = `${text}: show ${n} ${by === "class" ? "answered" : "labelled"}`;
      button.ariaPressed = String(view.by === by && view.class_name === label);
    });
  });
}

function showSimilar(index) {
  load({ by: "image", image: index });
}

function enlarge(index) {
  byId("enlarged-photo").src = `photos/${index}/large`;
  byId("enlarged-name").textContent = photos.get(index).name;
  byId("enlarged").showModal();
}

// Mouse and touch

const actions = {
  confirm: () => confirm(targets()),
  choose: () => choose(targets()),
  none: () => labelAll(targets(), NONE),
  skip: () => labelAll(targets(), SKIPPED),
  remove: () => labelAll(targets(), UNLABELLED),
  similar: () => showSimilar(targets()[0]),
  enlarge: () => enlarge(targets()[0]),
  unmark: () => markOnly([]),
};

let wasDragged = false;
on("groups", "click", (event) => {
  const card = event.target.closest(".card");
  if (event.target.closest(".group-head button")) {
    mark(indicesIn(event.target.closest(".group")));
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
on("groups", "change", (event) => {
  anchor = Number(event.target.closest(".card").dataset.index);
  mark([anchor], event.target.checked);
});
on("groups", "focusin", (event) => {
  const card = event.target.closest(".card");
  if (card) current = Number(card.dataset.index);
});
groups.addEventListener("error", ({ target: image }) => {
  image.alt = "This photo cannot be read.";
  image.parentElement.classList.add("unreadable");
  if (!image.dataset.retried) setTimeout(() => (image.src = image.src), RETRY_MS);
  image.dataset.retried = true;
}, true);
groups.addEventListener("load", ({ target: image }) => {
  image.alt = "";
  image.parentElement.classList.remove("unreadable");
}, true);

// A frame that is drawn with the mouse marks the photos that it touches.
on("groups", "pointerdown", (down) => {
  if (down.pointerType !== "mouse" || down.button !== 0 || down.target.closest("button")) return;
  const before = down.shiftKey || down.ctrlKey || down.metaKey ? [...marked] : [];
  const frame = document.createElement("div");
  frame.id = "frame";

  function move(event) {
    const [left, right] = [down.pageX, event.pageX].sort((a, b) => a - b);
    const [top, bottom] = [down.pageY, event.pageY].sort((a, b) => a - b);
    if (!wasDragged && right - left + bottom - top < 8) return;
    wasDragged = true;
    groups.setPointerCapture(down.pointerId);
    document.body.append(frame);
    const sides = { left, top, width: right - left, height: bottom - top };
    for (const [side, pixels] of Object.entries(sides)) frame.style[side] = `${pixels}px`;
    const touched = order.filter((index) => {
      const box = cards.get(index).getBoundingClientRect();
      return box.left + scrollX < right && box.right + scrollX > left
        && box.top + scrollY < bottom && box.bottom + scrollY > top;
    });
    markOnly([...before, ...touched]);
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

on("actions", "click", (event) => actions[event.target.dataset.action]?.());
on("classes", "click", ({ target }) => {
  if (target.dataset.by) load({ by: target.dataset.by, class_name: target.closest("tr").label });
});
on("by", "change", (event) => load({ by: event.target.value }, { focus: false }));
on("search", "submit", (event) => {
  event.preventDefault();
  const words = byId("words").value.trim();
  load(words ? { by: "words", words } : { by: "help" });
});
on("grouped", "change", showPhotos);
on("reload", "click", () => load(view));
on("more", "click", () => load(view, { more: true }));
on("undo", "click", () => takeBack("undo", "Undone"));
on("redo", "click", () => takeBack("redo", "Done again"));
on("save-model", "click", saveModel);
on("new-class", "click", addClass);
on("show-keys", "click", () => byId("keys").showModal());

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
  "Escape": actions.unmark,
};

on("groups", "keydown", (event) => {
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
  const all = indicesIn(groups);
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

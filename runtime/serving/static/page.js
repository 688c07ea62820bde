// The page: boxes on an SVG, a request to /v1/images/generations, and what comes back. No library, no build step.

const SVG = "http://www.w3.org/2000/svg";
const COLOURS = ["#d62728", "#1f77b4", "#2ca02c", "#9467bd", "#e0a100", "#17becf", "#e377c2", "#8c564b"];
const CORNERS = { nw: [0, 1], ne: [2, 1], sw: [0, 3], se: [2, 3] }; // indices of the box's edges that a handle moves
const LEAST = 0.02; // of the image: the smallest side of a box
const KEY_STEP = 0.01;
const MOST_UNDOS = 100;
const ALONE = { text_to_image: "text-to-image alone", spatial: "spatial alone" };

const $ = (id) => document.getElementById(id);
const state = { regions: [], chosen: -1, past: [], height: 1000, shown: {}, running: null, presets: null };

// Boxes: regions are {phrase, box: [x0, y0, x1, y1]} in fractions, as in layout.json.

function remember() {
  state.past.push(JSON.stringify(state.regions));
  if (state.past.length > MOST_UNDOS) state.past.shift();
}

function undo() {
  if (!state.past.length) return;
  state.regions = JSON.parse(state.past.pop());
  state.chosen = Math.min(state.chosen, state.regions.length - 1);
  render();
}

function choose(index) {
  state.chosen = index;
  render();
}

function remove(index) {
  remember();
  state.regions.splice(index, 1);
  state.chosen = Math.min(index, state.regions.length - 1);
  render();
}

const clamp = (value, low = 0, high = 1) => Math.min(Math.max(value, low), high);
const rounded = (box) => box.map((edge) => Math.round(edge * 10000) / 10000);

function moved([x0, y0, x1, y1], dx, dy) {
  const x = clamp(dx, -x0, 1 - x1), y = clamp(dy, -y0, 1 - y1);
  return rounded([x0 + x, y0 + y, x1 + x, y1 + y]);
}

function resized(box, corner, dx, dy) {
  const [h, v] = CORNERS[corner], next = [...box];
  next[h] = h === 0 ? clamp(box[0] + dx, 0, box[2] - LEAST) : clamp(box[2] + dx, box[0] + LEAST, 1);
  next[v] = v === 1 ? clamp(box[1] + dy, 0, box[3] - LEAST) : clamp(box[3] + dy, box[1] + LEAST, 1);
  return rounded(next);
}

// Words of the prompt that no box has yet: the next part between commas and conjunctions.
function nextPhrase() {
  const parts = $("prompt").value.split(/,|\band\b|\bleft of\b|\bright of\b|\babove\b|\bbelow\b/i).map((part) => part.trim());
  return parts.filter(Boolean).find((part) => !state.regions.some((region) => region.phrase === part)) ?? "object";
}

// Drawing of the boxes

function make(name, attributes, parent) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  parent?.append(element);
  return element;
}

function render() {
  $("boxes").replaceChildren(...($("layoutShown").checked ? state.regions.map(drawBox) : []));
  renderList();
  $("undo").disabled = !state.past.length;
}

function drawBox(region, index) {
  const [x0, y0, x1, y1] = region.box.map((edge, k) => edge * (k % 2 ? state.height : 1000));
  const colour = COLOURS[index % COLOURS.length];
  const group = make("g", { class: index === state.chosen ? "box chosen" : "box", "data-index": index });
  make("rect", { class: "body", x: x0, y: y0, width: x1 - x0, height: y1 - y0, stroke: colour, fill: colour }, group);
  make("text", { x: x0 + 12, y: y0 + 42, fill: colour }, group).textContent = region.phrase;
  if (index === state.chosen) {
    for (const [name, [h, v]] of Object.entries(CORNERS)) {
      const x = h === 0 ? x0 : x1, y = v === 1 ? y0 : y1;
      make("rect", { class: `handle h-${name}`, "data-corner": name, x: x - 16, y: y - 16, width: 32, height: 32, stroke: colour }, group);
    }
  }
  return group;
}

function renderList() {
  const list = $("regions");
  if (list.contains(document.activeElement) && list.children.length === state.regions.length) return; // somebody types
  list.replaceChildren(...state.regions.map(listItem));
}

function listItem(region, index) {
  const item = document.createElement("li"), swatch = document.createElement("span");
  swatch.className = "swatch";
  swatch.style.background = COLOURS[index % COLOURS.length];
  const words = document.createElement("input");
  words.type = "text";
  words.value = region.phrase;
  words.maxLength = 4000;
  words.setAttribute("aria-label", `Words of box ${index + 1}`);
  words.addEventListener("focus", () => { state.chosen = index; remember(); render(); });
  words.addEventListener("input", () => { state.regions[index].phrase = words.value; render(); });
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Delete";
  button.setAttribute("aria-label", `Delete box ${index + 1}`);
  button.addEventListener("click", () => remove(index));
  item.append(swatch, words, button);
  return item;
}

// Pointer and keyboard

function at(event) {
  const frame = $("canvas").getBoundingClientRect();
  return [clamp((event.clientX - frame.left) / frame.width), clamp((event.clientY - frame.top) / frame.height)];
}

let drag = null;

function press(event) {
  if (event.button) return;
  const group = event.target.closest?.("[data-index]"), [x, y] = at(event);
  remember();
  if (group) {
    const index = Number(group.dataset.index);
    drag = { index, corner: event.target.dataset.corner, from: [x, y], box: state.regions[index].box, moved: false };
  } else {
    state.regions.push({ phrase: nextPhrase(), box: rounded([x, y, x, y]) });
    drag = { index: state.regions.length - 1, fresh: [x, y], moved: false };
  }
  state.chosen = drag.index;
  $("canvas").setPointerCapture(event.pointerId);
  render();
}

function pull(event) {
  if (!drag) return;
  const [x, y] = at(event), region = state.regions[drag.index];
  drag.moved = true;
  if (drag.fresh) {
    const [fx, fy] = drag.fresh;
    region.box = rounded([Math.min(fx, x), Math.min(fy, y), Math.max(fx, x), Math.max(fy, y)]);
  } else {
    const dx = x - drag.from[0], dy = y - drag.from[1];
    region.box = drag.corner ? resized(drag.box, drag.corner, dx, dy) : moved(drag.box, dx, dy);
  }
  render();
}

function release() {
  if (!drag) return;
  const box = state.regions[drag.index].box;
  const tooSmall = drag.fresh && (box[2] - box[0] < LEAST || box[3] - box[1] < LEAST);
  if (tooSmall || !drag.moved) {
    state.past.pop();
    if (drag.fresh) { state.regions.pop(); state.chosen = -1; }
  }
  drag = null;
  render();
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function key(event) {
  const region = state.regions[state.chosen];
  if (ARROWS[event.key] && region) {
    const [dx, dy] = ARROWS[event.key].map((way) => way * KEY_STEP);
    remember();
    region.box = event.shiftKey ? resized(region.box, "se", dx, dy) : moved(region.box, dx, dy);
    render();
  } else if ((event.key === "Delete" || event.key === "Backspace") && region) {
    remove(state.chosen);
  } else if (event.key === "Enter") {
    remember();
    state.regions.push({ phrase: nextPhrase(), box: [0.3, 0.3, 0.7, 0.7] });
    choose(state.regions.length - 1);
  } else if (event.key === "n" && state.regions.length) {
    choose((state.chosen + 1) % state.regions.length);
  } else {
    return;
  }
  event.preventDefault();
}

// Layout files

const layout = () => ({ prompt: $("prompt").value, regions: state.regions });

function take(found) {
  const isBox = (region) => typeof region?.phrase === "string" && Array.isArray(region.box) && region.box.length === 4 &&
    region.box.every((edge) => typeof edge === "number" && edge >= 0 && edge <= 1);
  if (!Array.isArray(found?.regions) || !found.regions.every(isBox)) {
    throw new Error("this layout has something else than boxes; the page draws boxes alone");
  }
  remember();
  state.regions = found.regions.map(({ phrase, box }) => ({ phrase, box }));
  state.chosen = -1;
  if (typeof found.prompt === "string") $("prompt").value = found.prompt;
  render();
}

async function open(file) {
  try {
    take(JSON.parse(await file.text()));
    say(`${file.name} is open`);
  } catch (error) {
    say(`${file.name}: ${error.message}`, true);
  }
}

function save(name, href) {
  const link = document.createElement("a");
  link.href = href;
  link.download = name;
  link.click();
}

// Requests

function say(text, bad = false) {
  $("status").textContent = text;
  $("status").className = bad ? "bad" : "";
}

async function post(path, body, signal) {
  const headers = { "Content-Type": "application/json" };
  if ($("key").value) headers.Authorization = `Bearer ${$("key").value}`;
  const response = await fetch(path, { method: "POST", headers, body: JSON.stringify(body), signal });
  if (response.status === 401) $("keyField").hidden = false;
  if (!response.ok) throw new Error((await response.json()).error.message);
  return response;
}

// What is empty is left out: then it is the server's.
const told = (id, value = String) => ($(id).value === "" ? undefined : value($(id).value));

function body(gradient) {
  const asked = {
    prompt: $("prompt").value,
    preset: told("preset"),
    gradient: gradient || undefined,
    num_inference_steps: told("steps", Number),
    guidance_scale: told("guidance", Number),
    seed: told("seed", Number),
    stream: true,
    trace: true,
    partial_images: told("steps", Number),
  };
  if (gradient !== "text_to_image" || state.regions.length) asked.layout = { regions: state.regions };
  return asked;
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const data = block.split("\n").find((line) => line.startsWith("data: "));
      if (data) yield JSON.parse(data.slice(6));
    }
  }
}

const url = (encoded) => `data:image/png;base64,${encoded}`;

async function generate(gradient, signal, show) {
  const response = await post("/v1/images/generations", body(gradient), signal);
  for await (const event of events(response)) {
    if (event.type === "error") throw new Error(event.error.message);
    show(event);
    if (event.type === "image_generation.completed") return event;
  }
  throw new Error("the server hung up");
}

async function draw() {
  const running = (state.running = new AbortController());
  busy(true);
  const losses = [];
  plot(losses);
  state.shown = {};
  try {
    say("waiting for the server");
    const done = await generate($("gradient").value, running.signal, (event) => {
      if (event.type !== "image_generation.partial_image") return;
      losses.push(...event.losses);
      plot(losses);
      picture(url(event.b64_json));
      say(`step ${event.step} of ${event.steps}`);
    });
    finish(done);
    if ($("alone").checked) await drawAlone(running.signal);
    say(["done", ...done.warnings].join("; "));
  } catch (error) {
    say(error.name === "AbortError" ? "cancelled" : error.message, error.name !== "AbortError");
  }
  busy(false);
}

function finish(done) {
  const trace = done.data[0].trace;
  plot(trace?.losses ?? []);
  state.shown = { picture: { label: "the picture", picture: url(done.b64_json) } };
  if (trace) {
    state.shown.weights = { label: "the spatial model's weight", picture: url(done.b64_json), overlay: url(trace.spatial_weight) };
    trace.attention.forEach((map, k) => {
      const label = `attention of "${state.regions[k]?.phrase ?? k + 1}"`;
      state.shown[`attention-${k}`] = { label, picture: url(done.b64_json), overlay: url(map) };
    });
  }
  $("savePicture").href = url(done.b64_json);
  $("savePicture").hidden = false;
  options("picture");
}

async function drawAlone(signal) {
  for (const [gradient, label] of Object.entries(ALONE)) {
    say(`drawing with ${label}`);
    const done = await generate(gradient, signal, () => {});
    state.shown[gradient] = { label, picture: url(done.b64_json) };
    options($("show").value);
  }
}

function options(chosen) {
  $("show").replaceChildren(...Object.entries(state.shown).map(([name, { label }]) => new Option(label, name)));
  $("show").value = chosen;
  show();
}

function show() {
  const shown = state.shown[$("show").value];
  if (!shown) return;
  picture(shown.picture);
  if (shown.overlay) $("overlay").setAttribute("href", shown.overlay);
  else $("overlay").removeAttribute("href");
}

function picture(href) {
  $("picture").setAttribute("href", href);
  $("overlay").removeAttribute("href");
}

function plot(losses) {
  const high = Math.max(...losses, 1e-9);
  const x = (k) => 5 + (290 * k) / Math.max(losses.length - 1, 1), y = (loss) => 75 - (70 * loss) / high;
  $("curve").setAttribute("points", losses.map((loss, k) => `${x(k).toFixed(1)},${y(loss).toFixed(1)}`).join(" "));
  const last = losses.length ? `: ${losses[0].toFixed(3)} at first, ${losses.at(-1).toFixed(3)} after ${losses.length} evaluations` : "";
  $("lossText").textContent = `Attention loss${last}`;
}

function busy(now) {
  $("draw").disabled = now;
  $("cancel").disabled = !now;
}

async function plan() {
  try {
    say("planning");
    take(await (await post("/v1/layouts", { prompt: $("prompt").value })).json());
    say(`${state.regions.length} boxes planned`);
  } catch (error) {
    say(error.message, true);
  }
}

// What the server says of itself: the canvas has its pictures' aspect ratio, the form what it draws with.
async function meet() {
  const response = await fetch("/v1/models", { headers: $("key").value ? { Authorization: `Bearer ${$("key").value}` } : {} });
  if (!response.ok) { $("keyField").hidden = response.status !== 401; return; }
  const model = (await response.json()).data[0];
  if (!state.presets) offer(model);
  const [width, height] = model.size.split("x").map(Number);
  state.height = (1000 * height) / width;
  $("canvas").setAttribute("viewBox", `0 0 1000 ${state.height}`);
  for (const element of $("canvas").querySelectorAll(":scope > rect, :scope > image")) element.setAttribute("height", state.height);
  render();
}

function offer({ gradients, presets }) {
  state.presets = presets;
  const modes = new Set([...gradients, ...Object.values(presets).map(({ gradient }) => gradient)]);
  $("gradient").replaceChildren(...[...modes].map((mode) => new Option(ALONE[mode] ?? mode, mode)));
  $("preset").replaceChildren(...Object.keys(presets).map((name) => new Option(name, name)));
  $("alone").parentElement.hidden = !Object.keys(ALONE).every((mode) => gradients.includes(mode));
  takePreset((input) => input.value !== "");
}

// A preset's values into the form, but for inputs that are to stay.
function takePreset(stays = () => false) {
  const { gradient, num_inference_steps, guidance_scale } = state.presets[$("preset").value];
  $("gradient").value = gradient;
  if (!stays($("steps"))) $("steps").value = num_inference_steps;
  if (!stays($("guidance"))) $("guidance").value = guidance_scale;
}

const canvas = $("canvas");
canvas.addEventListener("pointerdown", press);
canvas.addEventListener("pointermove", pull);
canvas.addEventListener("pointerup", release);
canvas.addEventListener("pointercancel", release);
canvas.addEventListener("keydown", key);
document.addEventListener("keydown", (event) => {
  const types = ["INPUT", "TEXTAREA"].includes(event.target.tagName);
  if ((event.ctrlKey || event.metaKey) && event.key === "z" && !types) { event.preventDefault(); undo(); }
});
document.addEventListener("dragover", (event) => { event.preventDefault(); canvas.classList.add("dropping"); });
document.addEventListener("dragleave", () => canvas.classList.remove("dropping"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  canvas.classList.remove("dropping");
  if (event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
});
$("form").addEventListener("submit", (event) => { event.preventDefault(); draw(); });
$("cancel").addEventListener("click", () => state.running?.abort());
$("plan").addEventListener("click", plan);
$("undo").addEventListener("click", undo);
$("clear").addEventListener("click", () => { remember(); state.regions = []; choose(-1); });
$("preset").addEventListener("change", () => takePreset());
$("show").addEventListener("change", show);
$("layoutShown").addEventListener("change", render);
$("key").addEventListener("change", meet);
$("openLayout").addEventListener("change", (event) => { if (event.target.files[0]) open(event.target.files[0]); event.target.value = ""; });
$("saveLayout").addEventListener("click", () => {
  save("layout.json", URL.createObjectURL(new Blob([JSON.stringify(layout(), null, 2)], { type: "application/json" })));
});
render();
meet();

// Sends the forms, and follows each task that one of them started to its end.

const KEPT = 50; // tasks that this tab remembers
const SOONEST = 250; // milliseconds between two looks at the tasks, at first
const LATEST = 5000; // and when they take long

const find = (id) => document.getElementById(id);
let tasks = []; // the oldest first
try {
  tasks = JSON.parse(sessionStorage.getItem("tasks")).filter(({ task_id }) => task_id);
} catch {} // none yet, or what another program kept that had this address

class Problem extends Error {
  constructor(text, status = 0, fields = []) {
    super(text);
    Object.assign(this, { status, fields });
  }
}

const sentence = (text) => text.replace(/ ?\.?$/, ".");

// Returns the answer's JSON; throws a Problem that says in words why there is none.
async function ask(path, method = "GET") {
  const key = sessionStorage.getItem("api-key");
  let response;
  try {
    response = await fetch(path, { method, headers: key ? { "X-API-Key": key } : {} });
  } catch {
    throw new Problem("The service does not answer. Does it run?");
  }
  const body = await response.json().catch(() => null);
  if (response.ok && body) return body;
  const { status, statusText } = response;
  if (status === 401) {
    find("key").open = true;
    throw new Problem("The API key is missing or wrong: enter it under “API key”.", status);
  }
  if (Array.isArray(body?.detail)) {
    const reasons = body.detail.map(({ loc, msg }) => sentence(`${loc.at(-1)}: ${msg}`));
    throw new Problem(reasons.join(" "), status, body.detail.map(({ loc }) => loc.at(-1)));
  }
  const what = method === "POST" ? "Not accepted" : "No status";
  const reason = sentence(`${what}: ${body?.detail ?? `${status} ${statusText}`}`);
  const wait = response.headers.get("Retry-After");
  throw new Problem(wait ? `${reason} Try again in ${wait} s.` : reason, status);
}

function say(id, text, isProblem = false) {
  const place = find(id);
  place.classList.toggle("problem", isProblem);
  if (place.textContent !== text) place.textContent = text;
}

function show(task) {
  let row = find(task.task_id);
  if (!row) {
    row = find("task").content.firstElementChild.cloneNode(true);
    row.id = task.task_id;
    find("tasks").prepend(row);
  }
  const seconds = (new Date(task.finished_at) - new Date(task.enqueued_at)) / 1000;
  const facts = [
    task.name,
    task.finished_at && (seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toFixed(1)} s`),
    task.attempts > 1 && `${task.attempts} attempts`,
  ];
  const texts = {
    ".status": task.status,
    ".label": task.label,
    time: new Date(task.enqueued_at).toLocaleTimeString(),
    ".facts": facts.filter(Boolean).join(" · "),
    code: task.task_id,
    ".error": task.error ?? "",
  };
  row.className = task.status;
  for (const [selector, text] of Object.entries(texts)) {
    const place = row.querySelector(selector);
    if (place.textContent !== text) place.textContent = text; // what is selected stays so
  }
}

function keep() {
  while (tasks.length > KEPT) find(tasks.shift().task_id).remove();
  sessionStorage.setItem("tasks", JSON.stringify(tasks));
}

const isOver = ({ status }) => ["succeeded", "failed", "unknown"].includes(status);

let watches = 0;

async function look(task, own) {
  let news;
  try {
    news = await ask(`tasks/${task.task_id}`);
  } catch (problem) {
    if (problem.status !== 404) throw problem;
    news = { status: "unknown", error: "The service has forgotten this task." };
  }
  if (own !== watches) return ""; // a later watch may know better
  const isNew = news.status !== task.status || news.attempts > task.attempts;
  Object.assign(task, news);
  show(task);
  const words = [task.status, task.error].filter(Boolean).join(", ");
  return isNew && sentence(`${task.label}: ${words}`);
}

async function watch() {
  const own = ++watches; // a later watch ends this one
  for (let pause = SOONEST; own === watches; pause = Math.min(pause * 1.2, LATEST)) {
    const open = tasks.filter((task) => !isOver(task));
    const looks = await Promise.allSettled(open.map((task) => look(task, own)));
    keep();
    const news = looks.map(({ value }) => value).filter(Boolean);
    if (news.length) say("news", news.join(" "));
    const problem = looks.find(({ reason }) => reason)?.reason;
    if (own === watches) say("trouble", problem?.message ?? "", true);
    if (problem?.status === 401 || tasks.every(isOver)) return;
    await new Promise((resume) => setTimeout(resume, pause));
  }
}

async function start(form) {
  const fields = [...form.querySelectorAll("[name]")];
  const place = form.querySelector("[role=status]").id;
  const query = new URLSearchParams(new FormData(form));
  say(place, "Sending …");
  say("news", ""); // so that the same words are news again
  try {
    const { message, task_id } = await ask(`${form.getAttribute("action")}?${query}`, "POST");
    say(place, message ?? "Accepted.");
    fields.forEach((field) => field.removeAttribute("aria-invalid"));
    const label = [...query.values()].join(", ");
    const enqueued_at = new Date().toISOString();
    tasks.push({ task_id, label, status: "queued", attempts: 0, enqueued_at });
    show(tasks.at(-1));
    keep();
    watch();
  } catch (problem) {
    say(place, problem.message, true);
    const wrong = fields.filter((field) => problem.fields?.includes(field.name));
    fields.forEach((field) => field.setAttribute("aria-invalid", wrong.includes(field)));
    (problem.status === 401 ? find("key-field") : wrong[0])?.focus();
  }
}

document.addEventListener("submit", (event) => {
  event.preventDefault();
  if (event.target.hasAttribute("action")) return start(event.target);
  const key = find("key-field").value;
  sessionStorage.setItem("api-key", key);
  say("key-message", key ? "Used from now on." : "No key is sent.");
  watch();
});

tasks.forEach(show);
watch();

// What a board does beyond being read: it follows what happens, shows the numbers under
// the pointer, and remembers light or dark. Without it all of it is still there to read.

const root = document.documentElement;

// Light or dark.
const button = document.querySelector(".theme");
const system = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
const paint = () => { if (button) button.textContent = isDark() ? "Light" : "Dark"; };
root.dataset.theme = localStorage.getItem("theme") ?? "";
if (!root.dataset.theme) delete root.dataset.theme;
if (button) {
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    localStorage.setItem("theme", root.dataset.theme);
    paint();
  });
}
system.addEventListener("change", paint);
paint();

// A choice shows itself.
const asked = document.querySelector(".asked");
if (asked) {
  asked.querySelector(".show").hidden = true;
  asked.addEventListener("change", () => asked.submit());
}

// The numbers under the pointer, and by the arrow keys.
function show(drawn, x) {
  const svg = [...drawn.querySelectorAll("svg")].find((svg) => svg.clientWidth > 0);
  const { times, series } = JSON.parse(drawn.dataset.hover);
  const scale = svg.clientWidth / svg.viewBox.baseVal.width;
  const [left, right] = [svg.dataset.left * scale, svg.dataset.right * scale];
  const width = (right - left) / times.length;
  const step = Math.min(times.length - 1, Math.max(0, Math.floor((x - left) / width)));
  const at = left + (step + 0.5) * width;
  const [cross, tip] = [drawn.querySelector(".cross"), drawn.querySelector(".tip")];
  cross.hidden = tip.hidden = false;
  cross.style.left = `${at}px`;
  const rows = series.filter((of) => of.values[step] != null).map((of) => {
    const row = document.createElement("div");
    const mark = document.createElement("i");
    mark.className = `back-${of.colour}`;
    const [title, value] = [document.createElement("span"), document.createElement("span")];
    title.textContent = of.title;
    value.textContent = of.values[step];
    row.append(mark, title, value);
    return row;
  });
  const time = document.createElement("b");
  time.textContent = times[step];
  tip.replaceChildren(time, ...(rows.length ? rows : ["nothing"]));
  const room = drawn.clientWidth - tip.offsetWidth;
  tip.style.left = `${Math.max(0, at + 12 > room ? Math.min(at - 12 - tip.offsetWidth, room) : at + 12)}px`;
  return at;
}
function hide(drawn) {
  for (const of of drawn.querySelectorAll(".cross, .tip")) of.hidden = true;
}
const panels = document.querySelector("#panels");
panels?.addEventListener("pointermove", (event) => {
  const drawn = event.target.closest(".drawn");
  if (drawn) show(drawn, event.clientX - drawn.getBoundingClientRect().left);
});
panels?.addEventListener("pointerout", (event) => {
  const drawn = event.target.closest(".drawn");
  if (drawn && !drawn.contains(event.relatedTarget)) hide(drawn);
});

// What happens, as it happens.
const state = document.querySelector(".state");
const say = (name, what) => {
  state.className = `state ${name}`;
  state.querySelector(".said").textContent = what;
};
if (document.body.dataset.live) {
  const events = new EventSource(document.body.dataset.live);
  events.addEventListener("open", () => say("on", "live"));
  events.addEventListener("error", () => say("off", "not connected"));
  events.addEventListener("panels", (event) => {
    const { range, made, panels } = JSON.parse(event.data);
    say("on", `live, ${made}`);
    document.querySelector("#range").textContent = range;
    for (const [id, html] of Object.entries(panels)) {
      const body = document.querySelector(`#${id} .body`);
      if (!body) continue;
      const isOpen = body.querySelector("details")?.open;
      body.innerHTML = html;
      if (isOpen) body.querySelector("details")?.setAttribute("open", "");
    }
  });
}

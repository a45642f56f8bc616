// The settings, each with an explanation.

import { make } from "./dom.js";
import { factsOf } from "./models.js";
import { DEFAULTS, PRESETS, RANGES } from "./settings.js";
import { number, t } from "./strings.js";

/** The elements of the drawer. page: {settings, models, desk, drawer}. */
export function settingsElements(page) {
  const { settings, drawer } = page;
  const reset = make("button", { textContent: t("reset"), className: "quiet" });
  reset.addEventListener("click", () => {
    const { theme, language, key } = settings;
    settings.set({ ...DEFAULTS, theme, language, key });
    drawer.refresh();
  });
  const numbers = ["length", "number", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed"];
  return [
    modelChooser(page), pinnedText(page), presets(page),
    ...numbers.map(name => numberSetting(page, name)),
    clickSetting(page), numberSetting(page, "fontSize"), reset,
  ];
}

function explained(name, control, text = t(`${name}Text`)) {
  const about = make("p", { id: `about-${name}`, className: "about" }, text);
  control.id = `set-${name}`;
  control.setAttribute("aria-describedby", about.id);
  return make("div", { className: "setting" }, make("label", { htmlFor: control.id }, t(name)), control, about);
}

function modelChooser({ settings, models }) {
  const select = make("select");
  select.append(...models.list.map(({ id }) => make("option", { value: id, textContent: id })));
  select.value = models.current?.id ?? "";
  const setting = explained("model", select, models.current ? factsOf(models.current) : "");
  select.addEventListener("change", () => {
    settings.set({ model: select.value });
    setting.querySelector(".about").textContent = factsOf(models.current);
  });
  return setting;
}

function pinnedText({ desk }) {
  const area = make("textarea", { rows: 3, value: desk.record.prefix, disabled: desk.readOnly, spellcheck: false });
  area.addEventListener("input", () => desk.setPrefix(area.value));
  return explained("prefix", area);
}

function presets({ settings, drawer }) {
  const choices = Object.entries(PRESETS).map(([name, values]) => {
    const chosen = Object.entries(values).every(([key, value]) => settings[key] === value);
    const radio = make("input", { type: "radio", name: "preset", checked: chosen });
    radio.addEventListener("change", async () => {
      settings.set(values);
      await drawer.refresh();
      document.querySelector("input[name=preset]:checked")?.focus();
    });
    return make("label", {}, radio, make("span", {}, t(name)));
  });
  return make("fieldset", { className: "presets" }, make("legend", {}, t("presets")), ...choices);
}

function numberSetting({ settings }, name) {
  const [min, max, step] = RANGES[name], isSeed = name === "seed";
  const control = make("input", { type: isSeed ? "number" : "range", min, max, step, value: settings[name] });
  const value = make("output", {}, number(settings[name], digits(step)));
  control.addEventListener("input", () => {
    if (!control.checkValidity() || control.value === "") return;
    settings.set({ [name]: Number(control.value) });
    value.textContent = number(settings[name], digits(step));
    if (step < 1) for (const radio of document.getElementsByName("preset")) radio.checked = false;
  });
  const setting = name === "fontSize" ? explained(name, control, "") : explained(name, control);
  if (!isSeed) control.before(value);
  value.htmlFor = control.id;
  return setting;
}

const digits = step => (step < 1 ? 2 : 0);

function clickSetting({ settings }) {
  const box = make("input", { type: "checkbox", checked: settings.clickShows });
  box.addEventListener("change", () => settings.set({ clickShows: box.checked }));
  return make("label", { className: "setting check" }, box, make("span", {}, t("clickShows")));
}

// Every text of the page, in two languages. {name} stands for a value.

const en = {
  title: "Write a novel",
  manuscript: "Manuscript", untitled: "Untitled", copyOf: "{name} (copy)", name: "Name of the manuscript",
  placeholder: "Write the first sentence, then press Continue. Or write nothing: the model begins.",
  manuscripts: "Manuscripts", history: "History", settings: "Settings", help: "Help", close: "Close",
  theme: "Light or dark", language: "中文", languageLabel: "界面换成中文",
  tools: "Writing tools", undo: "Undo", redo: "Redo",
  continue: "Continue", continueHere: "Continue here", stop: "Stop", retry: "Retry",
  compare: "{n} side by side", compareLabel: "Write several continuations side by side",
  until: "Write until", untilLength: "{n} characters", untilParagraph: "end of paragraph",
  untilChapter: "end of chapter",
  colours: "Colours", coloursLabel: "Colour the text by the model's probability", why: "Why?",
  whyLabel: "Why this character? Shows what the model might have written",
  legend: "Probability",

  ready: "ready", writing: "writing, {n} characters", queued: "waiting, place {n} in the queue",
  reading: "reading the text",
  stopped: "stopped, {n} characters", finished: "done, {n} characters", nothing: "the model ends here",
  speed: "{n} tokens/s", characters: "{n} characters", saved: "saved", saving: "saving …", others: "{n} waiting",
  offline: "The server does not answer. Is serve.py running? Trying again …", online: "Connected again.",
  broken: "The connection broke off. What was written is kept.",
  busy: "Too many people are writing. Trying again in {n} s.",
  unknownModel: "This model is not there any more. Choose another in the settings.",
  failed: "The server reports an error: {message}",
  storageFailed: "The browser cannot save: {message} Download your text.",
  keyNeeded: "This server asks for a key", keyText: "The person who started it knows the key (--api_key).",
  key: "Key", keyWrong: "This key is not right.", ok: "OK", cancel: "Cancel",
  elsewhere: "This manuscript is open in another tab. Here it can only be read.",
  takeOver: "Write here", copy: "Make a copy",
  copied: "Another tab has changed this manuscript. What you wrote here is now a copy of its own.",

  take: "Take", choices: "Continuations", choicesHint: "Click one, or press Alt+1 to Alt+{n}",
  dismiss: "Take none",

  whyTitle: "What else could stand here?", whyNext: "What could come next?",
  whyHere: "{text} has a probability of {before}; {after} after the filters.",
  whyRank: "{text} is not among the first {n}: less than {before}.",
  whyHint: "Choose one: the text is rewritten from here.", before: "model", after: "filtered",
  lineEnd: "end of paragraph", chapterEnd: "next chapter", byte: "part of a rare character",

  model: "Model", facts: "{parameters} parameters · sees {window} tokens · step {step}{bits}",
  bits: " · {n} bits per character",
  presets: "Style", steady: "Steady", lively: "Lively", wild: "Wild",
  temperature: "Temperature",
  temperatureText: "Low: likely characters, calm text. High: surprises. 0: always the most likely one.",
  top_p: "Top-p", top_pText: "Only the most likely characters that together reach this probability. 1: all.",
  top_k: "Top-k", top_kText: "Only this many of the most likely characters. 0: all.",
  min_p: "Min-p", min_pText: "Drops characters that are less likely than this share of the most likely one. 0: none.",
  repetition_penalty: "Repetition penalty",
  repetition_penaltyText: "Above 1: characters that were used become less likely.",
  length: "Length", lengthText: "Characters of one continuation.",
  number: "Side by side", numberText: "How many continuations to compare.",
  seed: "Seed", seedText: "The same number gives the same text. 0: another text each time. Retry adds 1.",
  prefixCut: "The pinned text is too long for this model: it sees its last {n} tokens.",
  prefix: "Pinned text",
  prefixText: "Names, places, the chapter's title. The model always sees it, however long the text gets.",
  clickShows: "A click on a character shows what else could stand there", fontSize: "Text size",
  reset: "Reset settings",

  new: "New", load: "Load .txt", saveText: "Download .txt", saveMarkdown: "Download .md", remove: "Delete",
  removeSure: "Delete “{name}”? This cannot be undone.", loses: "This manuscript cannot be saved. Leave it and lose it?", loaded: "Loaded {name}: {n} characters.",
  notText: "{name} is not a text file.",
  kept: "Manuscripts are kept in this browser only. Download those that matter.",
  historyText: "All that the model has written here. Insert puts a text in at the cursor.", insert: "Insert",
  used: "used",
  historyEmpty: "Nothing yet.", replaced: "replaced",
  keys: "Keys", keysText: "Everything can be done from the keyboard.",
  inks: "Black is what you typed, blue what the model wrote.",
  keyContinue: "continue at the cursor", keyStop: "stop, close", keyRetry: "write the last continuation again",
  keyCompare: "several side by side", keyTake: "take one of them", keyUndo: "undo, redo",
  keyWhy: "candidates at the cursor",
  keyColours: "colour by probability",
};

const zh = {
  title: "写小说",
  manuscript: "文稿", untitled: "未命名", copyOf: "{name}（副本）", name: "文稿名",
  placeholder: "写下第一句，再按“续写”。也可以什么都不写，让模型开头。",
  manuscripts: "文稿", history: "续写记录", settings: "设置", help: "帮助", close: "关闭",
  theme: "浅色或深色", language: "EN", languageLabel: "Switch to English",
  tools: "写作工具", undo: "撤销", redo: "重做",
  continue: "续写", continueHere: "在此续写", stop: "停止", retry: "重写",
  compare: "并列 {n} 份", compareLabel: "同时写几份续文，并排比较",
  until: "写到", untilLength: "{n} 字", untilParagraph: "这段写完", untilChapter: "这章写完",
  colours: "着色", coloursLabel: "按模型给出的概率给文字着色", why: "候选字", whyLabel: "为什么是这个字？看看这里还可能写什么",
  legend: "概率",

  ready: "就绪", writing: "正在写，{n} 字", queued: "排队中，第 {n} 位", reading: "正在读前文",
  stopped: "已停止，{n} 字", finished: "写完，{n} 字", nothing: "模型认为到此结束",
  speed: "{n} token/秒", characters: "{n} 字", saved: "已保存", saving: "保存中……", others: "{n} 个请求在排队",
  offline: "服务器没有应答。serve.py 在运行吗？正在重试……", online: "已重新连上。",
  broken: "连接中断。已写出的文字都还在。",
  busy: "同时使用的人太多，{n} 秒后重试。",
  unknownModel: "这个模型已不存在，请在设置里另选一个。",
  failed: "服务器报错：{message}", storageFailed: "浏览器无法保存：{message}请下载文稿。",
  keyNeeded: "这台服务器需要密钥", keyText: "请向启动服务器的人索取（--api_key）。",
  key: "密钥", keyWrong: "密钥不对。", ok: "确定", cancel: "取消",
  elsewhere: "这份文稿已在另一个标签页中打开，这里只能阅读。",
  takeOver: "改在这里写", copy: "另存一份",
  copied: "另一个标签页改动了这份文稿。你在这里写的内容已另存为一份副本。",

  take: "采用", choices: "续文", choicesHint: "点选一份，或按 Alt+1 到 Alt+{n}",
  dismiss: "都不要",

  whyTitle: "这里还可能写什么？", whyNext: "接下来可能写什么？",
  whyHere: "“{text}”的概率是 {before}，过滤后 {after}。",
  whyRank: "“{text}”不在前 {n} 名，概率低于 {before}。",
  whyHint: "选一个字，就从这里改写下去。", before: "模型", after: "过滤后",
  lineEnd: "换段", chapterEnd: "下一章", byte: "生僻字的一部分",

  model: "模型", facts: "{parameters} 参数 · 能看到 {window} 个 token · 第 {step} 步{bits}", bits: " · 每字 {n} 比特",
  presets: "风格", steady: "稳健", lively: "生动", wild: "奔放",
  temperature: "温度", temperatureText: "低：多用常见的字，文气平稳。高：多有意外。0：总选概率最大的字。",
  top_p: "Top-p", top_pText: "只在概率最大、合计达到这个数的字里选。1：不限。",
  top_k: "Top-k", top_kText: "只在概率最大的若干个字里选。0：不限。",
  min_p: "Min-p", min_pText: "去掉概率低于“最大概率乘以此数”的字。0：不限。",
  repetition_penalty: "重复惩罚", repetition_penaltyText: "大于 1：出现过的字不容易再出现。",
  length: "长度", lengthText: "每次续写的字数。",
  number: "并列份数", numberText: "同时写几份来比较。",
  seed: "随机种子", seedText: "同一个数写出同样的文字。0：每次都不同。重写时自动加 1。",
  prefixCut: "固定前文太长，模型只能看到最后 {n} 个 token。",
  prefix: "固定前文", prefixText: "人名、地名、章名。正文再长，模型也总能看到这里的文字。",
  clickShows: "点一个字，显示那里还可能写什么", fontSize: "字号", reset: "恢复默认设置",

  new: "新建", load: "导入 .txt", saveText: "下载 .txt", saveMarkdown: "下载 .md", remove: "删除",
  removeSure: "删除“{name}”？删除后无法恢复。", loses: "这份稿子无法保存，离开就会丢失。确定吗？", loaded: "已导入《{name}》，{n} 字。",
  notText: "{name} 不是文本文件。",
  kept: "文稿只保存在这个浏览器里，重要的请下载备份。",
  historyText: "模型在这份文稿里写过的全部文字。“插入”放到光标处。", insert: "插入", used: "已采用",
  historyEmpty: "还没有记录。", replaced: "被替换",
  keys: "快捷键", keysText: "所有操作都可以用键盘完成。", inks: "黑色是你写的，蓝色是模型写的。",
  keyContinue: "从光标处续写", keyStop: "停止；关闭面板", keyRetry: "重写上一次的续文",
  keyCompare: "并列写几份", keyTake: "采用其中一份", keyUndo: "撤销、重做", keyWhy: "光标处的候选字",
  keyColours: "按概率着色",
};

const LANGUAGES = { en, zh };
let language = "en";

export function setLanguage(chosen) {
  language = chosen || (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en");
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
}

/** A text in the chosen language. */
export function t(key, values = {}) {
  return LANGUAGES[language][key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** A number as the language writes it. */
export const number = (value, digits = 0) =>
  value.toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });

/** Put texts into the elements that ask for one. data-t: content. data-label: name, where there is no content. */
export function translate() {
  const each = (name, put) => {
    for (const element of document.querySelectorAll(`[data-${name}]`)) put(element, t(element.dataset[name]));
  };
  each("t", (element, text) => (element.textContent = text));
  each("label", (element, text) => element.setAttribute("aria-label", text));
  each("tip", (element, text) => (element.title = text));
  each("hint", (element, text) => element.setAttribute("placeholder", text));
}

// Metrics as people read them: names, precision, which way is better. The same words as in the reports.

const KNOWN = [
  ["f1", "Token F1", 2, 1, 1],
  ["precision", "Precision", 2, 1, 1],
  ["recall", "Recall", 2, 1, 1],
  ["exact_match", "Exact match", 2, 1, 1],
  ["accuracy", "Accuracy", 2, 1, 1],
  ["macro_f1", "Macro F1", 2, 1, 1],
  ["no_label", "Answers that are no label", 2, -1, 1],
  ["bleu", "BLEU", 1, 1, 100],
  ["chrf", "chrF", 1, 1, 100],
  ["rouge_l", "ROUGE-L", 2, 1, 1],
  ["perplexity", "Perplexity of the reference", null, -1, null],
  ["loss", "Loss of the reference", 2, -1, null],
  ["general_perplexity", "Perplexity of general answers", null, -1, null],
  ["ended", "Ended its turn", 2, 1, 1],
  ["tokens", "Length, tokens", 1, 0, null],
].map(([key, name, decimals, better, whole]) => ({ key, name, decimals, better, whole }));

/** Return the metrics of these names in reading order; those that are not known come last, by their own names. */
export function described(keys) {
  const wanted = new Set(keys);
  const known = KNOWN.filter((one) => wanted.has(one.key));
  const others = [...wanted].filter((key) => !known.some((one) => one.key === key));
  return [...known, ...others.map((key) => ({ key, name: key.replace(/_/g, " "), decimals: null, better: 0, whole: null }))];
}

/** Return a number without a fraction. */
export const whole = (value) => value.toLocaleString("en", { maximumFractionDigits: 0 });

/** Return a value at its metric's precision. */
export function shown(metric, value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  const decimals = metric.decimals ?? (size < 9.995 ? 2 : size < 99.95 ? 1 : 0);
  return `${value < 0 ? "−" : ""}${size.toLocaleString("en", { minimumFractionDigits: decimals, maximumFractionDigits: decimals })}`;
}

export function shownSigned(metric, value) {
  return value > 0 ? `+${shown(metric, value)}` : shown(metric, value);
}

export const METHODS = { full: "Full", lora: "LoRA", qlora: "QLoRA", prefix: "Prefix", dpo: "DPO" };

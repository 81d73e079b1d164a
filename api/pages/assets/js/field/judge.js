// Verdicts on what a person types, the same as the server's (sensors/standards/hj915.py); pure.

// A number as people type it; null where it is none.
export function numberOf(text) {
  const clean = String(text ?? "").trim().replace(/[，,](?=\d{1,3}$)/, ".").replace("．", ".").replace("−", "-");
  if (!/^[+-]?(\d+\.?\d*|\.\d+)$/.test(clean)) return null;
  return Number(clean);
}

// Error of a reading against a standard: in its unit, or in % of the standard. Null where it cannot be said.
export function errorOf(limit, reading, standard) {
  if (reading === null || standard === null || !limit) return null;
  if (limit.kind !== "relative") return reading - standard;
  return standard === 0 ? null : ((reading - standard) / standard) * 100;
}

// Exactly the limit passes, in spite of binary fractions.
export function within(error, most) {
  const size = Math.abs(error);
  return size <= most || Math.abs(size - most) <= 1e-9 * Math.max(size, most);
}

// {error, passed} of a reading, or null while something is missing.
export function judge(limit, reading, standard) {
  const error = errorOf(limit, reading, standard);
  return error === null ? null : { error, passed: within(error, limit.most) };
}

// What a first reading looks like: "ok", "low", "high", or "unknown" where there is no range or no reading.
export function plausibility(reading, range) {
  if (reading === null || !range || range.some((end) => typeof end !== "number")) return "unknown";
  const [low, high] = range;
  if (reading < low) return "low";
  return reading > high ? "high" : "ok";
}

// The sign of an error is always written, with as many decimals as its limit has, at least two.
export function signed(value, decimals = 2) {
  const text = Math.abs(value).toFixed(decimals);
  return Number(text) === 0 ? text : (value < 0 ? "−" : "+") + text;
}

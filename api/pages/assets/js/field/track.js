// The arithmetic of a track, the same as the server's (governance/reports/patrols.py); pure.
const METRES_PER_DEGREE = 111_195;
const DEGREE = Math.PI / 180;

// Metres between two places that are near each other.
export function metresBetween(a, b) {
  const x = (b.lon - a.lon) * Math.cos(((a.lat + b.lat) / 2) * DEGREE);
  return METRES_PER_DEGREE * Math.hypot(x, b.lat - a.lat);
}

// Length and time of points {at (ms), lon, lat}; a stretch faster than the rule allows is a jump of the receiver.
export function measure(points, rule) {
  let metres = 0;
  let jumps = 0;
  for (let i = 1; i < points.length; i++) {
    const step = metresBetween(points[i - 1], points[i]);
    if (step > (rule.fastest_m_s ?? 15) * ((points[i].at - points[i - 1].at) / 1000)) jumps += 1;
    else metres += step;
  }
  const minutes = points.length ? (points.at(-1).at - points[0].at) / 60_000 : 0;
  return { metres, minutes, jumps };
}

// What a track lacks to count; both 0 where it counts.
export function lacking(done, rule) {
  return { minutes: Math.max(0, rule.minutes - done.minutes), metres: Math.max(0, rule.metres - done.metres) };
}

// Whether a fix is worth a point: later than the last one, and not a guess of the network's cell.
export function takes(points, fix, worst_m = 100) {
  if (!fix || fix.accuracy_m > worst_m) return false;
  return !points.length || fix.at > points.at(-1).at;
}

// Points and lines [[lon, lat], …] into a picture of a given size; north is up. Null without a place.
export function projection(places, width, height, margin = 24) {
  if (!places.length) return null;
  const lons = places.map(([lon]) => lon);
  const lats = places.map(([, lat]) => lat);
  const middle = { lon: (Math.min(...lons) + Math.max(...lons)) / 2, lat: (Math.min(...lats) + Math.max(...lats)) / 2 };
  const narrow = Math.cos(middle.lat * DEGREE);
  const wide = Math.max((Math.max(...lons) - Math.min(...lons)) * narrow, 0.003);
  const high = Math.max(Math.max(...lats) - Math.min(...lats), 0.003);
  const scale = Math.min((width - 2 * margin) / wide, (height - 2 * margin) / high);
  return ([lon, lat]) => [
    Math.round((width / 2 + (lon - middle.lon) * narrow * scale) * 10) / 10,
    Math.round((height / 2 - (lat - middle.lat) * scale) * 10) / 10,
  ];
}

// The nearest of things with lon and lat, and how far it is; null where there is none.
export function nearest(here, things) {
  let found = null;
  for (const thing of things) {
    if (typeof thing.lon !== "number") continue;
    const metres = metresBetween(here, thing);
    if (!found || metres < found.metres) found = { thing, metres };
  }
  return found;
}

// How far a place is from a line [[lon, lat], …], in metres; Infinity without a line.
export function metresFromLine(here, line) {
  let least = Infinity;
  const narrow = Math.cos(here.lat * DEGREE);
  const flat = ([lon, lat]) => [(lon - here.lon) * narrow * METRES_PER_DEGREE, (lat - here.lat) * METRES_PER_DEGREE];
  for (let i = 1; i < (line?.length ?? 0); i++) {
    const [ax, ay] = flat(line[i - 1]);
    const [bx, by] = flat(line[i]);
    const long = (bx - ax) ** 2 + (by - ay) ** 2;
    const t = long ? Math.min(1, Math.max(0, -(ax * (bx - ax) + ay * (by - ay)) / long)) : 0;
    least = Math.min(least, Math.hypot(ax + t * (bx - ax), ay + t * (by - ay)));
  }
  return least;
}

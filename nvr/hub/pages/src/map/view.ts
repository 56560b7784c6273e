// Web Mercator, the projection of every tile server; one unit is the whole world.

export interface View {
  x: number; // what lies in the middle
  y: number;
  scale: number; // pixels for the whole world
}

export const worldX = (lon: number) => (lon + 180) / 360;
export function worldY(lat: number): number {
  const rad = (lat * Math.PI) / 180;
  return (1 - Math.log(Math.tan(rad) + 1 / Math.cos(rad)) / Math.PI) / 2;
}

export const METRES = 40_075_017; // around the equator

/** The view that shows all points, with a margin in pixels. */
export function viewOf(points: [number, number][], width: number, height: number, margin = 70): View {
  const xs = points.map(([lon]) => worldX(lon));
  const ys = points.map(([, lat]) => worldY(lat));
  const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const scale = Math.min(Math.max(40, width - 2 * margin) / Math.max(x1 - x0, 1e-6), Math.max(40, height - 2 * margin) / Math.max(y1 - y0, 1e-6));
  return { x: (x0 + x1) / 2, y: (y0 + y1) / 2, scale: Math.min(scale, 2 ** 24) };
}

/** A closed ring as a smooth path (Catmull-Rom as Bézier), in thousandths of a thousandth of the world around `origin`. */
export function smoothPath(ring: [number, number][], origin: [number, number]): string {
  const points = ring.map(([lon, lat]) => [(worldX(lon) - origin[0]) * 1e6, (worldY(lat) - origin[1]) * 1e6] as const);
  const at = (number: number) => points[(number + points.length) % points.length]!;
  let path = `M${at(0)[0].toFixed(1)} ${at(0)[1].toFixed(1)}`;
  for (let number = 0; number < points.length; number++) {
    const [a, b, c, d] = [at(number - 1), at(number), at(number + 1), at(number + 2)];
    path += `C${[b[0] + (c[0] - a[0]) / 6, b[1] + (c[1] - a[1]) / 6, c[0] - (d[0] - b[0]) / 6, c[1] - (d[1] - b[1]) / 6, c[0], c[1]].map((each) => each.toFixed(1)).join(" ")}`;
  }
  return `${path}Z`;
}

export interface Tile {
  key: string;
  url: string;
  x: number;
  y: number;
  size: number;
}

/** The tiles that cover the screen. */
export function tilesOf(view: View, width: number, height: number, template: string): Tile[] {
  const zoom = Math.max(0, Math.min(19, Math.round(Math.log2(view.scale / 256))));
  const many = 2 ** zoom;
  const size = view.scale / many;
  const left = Math.floor((view.x - width / 2 / view.scale) * many);
  const right = Math.floor((view.x + width / 2 / view.scale) * many);
  const top = Math.max(0, Math.floor((view.y - height / 2 / view.scale) * many));
  const bottom = Math.min(many - 1, Math.floor((view.y + height / 2 / view.scale) * many));
  const found: Tile[] = [];
  for (let y = top; y <= bottom; y++)
    for (let x = left; x <= right; x++) {
      const url = template.replace("{z}", String(zoom)).replace("{x}", String(((x % many) + many) % many)).replace("{y}", String(y));
      found.push({ key: `${zoom}/${x}/${y}`, url, x: (x / many - view.x) * view.scale + width / 2, y: (y / many - view.y) * view.scale + height / 2, size });
    }
  return found;
}

/** Points nearer than `near` pixels to each other are one. */
export function grouped<T>(points: { x: number; y: number; item: T }[], near: number): { x: number; y: number; items: T[] }[] {
  const groups: { x: number; y: number; items: T[] }[] = [];
  for (const point of points) {
    const found = groups.find((each) => Math.hypot(each.x - point.x, each.y - point.y) < near);
    if (!found) groups.push({ x: point.x, y: point.y, items: [point.item] });
    else {
      const many = found.items.length;
      found.x = (found.x * many + point.x) / (many + 1);
      found.y = (found.y * many + point.y) / (many + 1);
      found.items.push(point.item);
    }
  }
  return groups;
}

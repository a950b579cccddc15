// What Grafana's server does for a Prometheus data source: intervals, and frames from answers.
// Follows promlib (grafana/pkg/promlib): calculatePrometheusInterval, interpolateVariables.

export interface Asked {
  refId: string;
  expr: string;
  instant?: boolean;
  interval?: string;
  intervalMs?: number;
  maxDataPoints?: number;
  legendFormat?: string;
}

export interface Sent {
  refId: string;
  expr: string;
  step: number;
  error?: string;
}

interface Series {
  metric: Record<string, string>;
  value?: [number, string];
  values?: Array<[number, string]>;
}

const UNITS: Record<string, number> = { ms: 1, s: 1e3, m: 6e4, h: 36e5, d: 864e5, w: 6048e5 };
const [MS, S, M, H, D] = [1, 1e3, 6e4, 36e5, 864e5];

// gtime.RoundInterval: below the first number of a pair, the second.
const ROUNDED: Array<[number, number]> = [
  [15 * MS, 10], [35, 20], [75, 50], [150, 100], [350, 200], [750, 500], [1.5 * S, S], [3.5 * S, 2 * S],
  [7.5 * S, 5 * S], [12.5 * S, 10 * S], [17.5 * S, 15 * S], [25 * S, 20 * S], [45 * S, 30 * S], [1.5 * M, M],
  [3.5 * M, 2 * M], [7.5 * M, 5 * M], [12.5 * M, 10 * M], [17.5 * M, 15 * M], [25 * M, 20 * M], [45 * M, 30 * M],
  [1.5 * H, H], [2.5 * H, 2 * H], [4.5 * H, 3 * H], [9 * H, 6 * H], [D, 12 * H], [7 * D, D], [21 * D, 7 * D],
  [42 * D, 30 * D],
];

const SAFE_POINTS = 11_000;

const prometheus = new URLSearchParams(location.search).get('prometheus');

export const sent: Sent[] = [];
export const progress = { open: 0 };

export function milliseconds(duration: string): number {
  const [, number, unit] = /^(\d+)(ms|s|m|h|d|w)$/.exec(duration) ?? [];
  if (!unit) throw new Error(`no duration: ${duration}`);
  return Number(number) * UNITS[unit];
}

function rounded(interval: number): number {
  return ROUNDED.find(([bound]) => interval < bound)?.[1] ?? 365 * D;
}

function intervals(asked: Asked, span: number, scrape: string): { step: number; rate: number } {
  const least = asked.interval ? milliseconds(asked.interval) : asked.intervalMs || milliseconds(scrape);
  const exact = span / (asked.maxDataPoints || 100);
  const step = Math.max(exact < least ? least : rounded(exact), rounded(span / SAFE_POINTS));
  const requested = milliseconds(asked.interval || scrape);
  return { step, rate: Math.max((asked.intervalMs || step) + requested, 4 * requested) };
}

function interpolated(expr: string, step: number, rate: number, span: number): string {
  const values: Record<string, string> = {
    __interval_ms: String(step),
    __interval: `${step / S}s`,
    __rate_interval: `${rate / S}s`,
    __range_ms: String(span),
    __range_s: String(Math.round(span / S)),
    __range: `${Math.round(span / S)}s`,
  };
  return expr.replace(/\$(?:\{(__\w+)\}|(__\w+))/g, (all, braced, plain) => values[braced ?? plain] ?? all);
}

function legend(format: string | undefined, labels: Record<string, string>): string | undefined {
  if (!format || format === '__auto') return undefined;
  return format.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, label) => labels[label] ?? label);
}

function frame(asked: Asked, series: Series, meta: object, step: number): object {
  const points = series.values ?? [series.value!];
  const displayNameFromDS = legend(asked.legendFormat, series.metric);
  const numbers = points.map(([, text]) => Number(text.replace('Inf', 'Infinity')));
  return {
    schema: {
      refId: asked.refId,
      meta,
      fields: [
        { name: 'Time', type: 'time', typeInfo: { frame: 'time.Time' }, config: { interval: step } },
        {
          name: series.metric.__name__ ?? 'Value',
          type: 'number',
          typeInfo: { frame: 'float64' },
          labels: series.metric,
          config: displayNameFromDS ? { displayNameFromDS } : {},
        },
      ],
    },
    data: { values: [points.map(([at]) => at * S), numbers] },
  };
}

async function query(asked: Asked, from: number, to: number, scrape: string): Promise<object> {
  const { step, rate } = intervals(asked, to - from, scrape);
  const expr = interpolated(asked.expr, step, rate, to - from);
  const form = new URLSearchParams({ query: expr });
  if (asked.instant) {
    form.set('time', String(to / S));
  } else {
    form.set('start', String(Math.floor(from / step) * step / S));
    form.set('end', String(Math.floor(to / step) * step / S));
    form.set('step', String(step / S));
  }
  const path = asked.instant ? 'query' : 'query_range';
  const answer = await (await fetch(`${prometheus}/api/v1/${path}`, { method: 'POST', body: form })).json();
  sent.push({ refId: asked.refId, expr, step: step / S, error: answer.error });
  if (answer.status !== 'success') return { error: answer.error, status: 400, frames: [] };
  const { resultType, result } = answer.data;
  const meta = { type: 'timeseries-multi', typeVersion: [0, 1], custom: { resultType } };
  const found: Series[] = resultType === 'scalar' ? [{ metric: {}, value: result }] : result;
  const frames = found.map((series) => frame(asked, series, meta, step));
  return { status: 200, frames: frames.length ? frames : [{ schema: { refId: asked.refId, meta, fields: [] }, data: { values: [] } }] };
}

// A resource call goes to Prometheus' API as it is.
async function resource(path: string, method: string, params: object, body: unknown): Promise<unknown> {
  const pairs = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) pairs.append(name, String(value));
  const form = typeof body === 'object' && body ? new URLSearchParams(body as Record<string, string>) : undefined;
  const url = `${prometheus}/${path.replace(/^\//, '')}${pairs.size ? `${path.includes('?') ? '&' : '?'}${pairs}` : ''}`;
  const answer = await fetch(url, { method, body: method === 'POST' ? form : undefined });
  return answer.json();
}

export async function respond(options: any, scrape: string): Promise<object> {
  const url = String(options.url);
  progress.open += 1;
  try {
    let data: unknown = {};
    const call = /resources\/(.*)/.exec(url);
    if (url.includes('/api/ds/query')) {
      const { queries, from, to } = options.data;
      const found = queries.map(async (asked: Asked) => [asked.refId, await query(asked, +from, +to, scrape)]);
      data = { results: Object.fromEntries(await Promise.all(found)) };
    } else if (call) {
      data = await resource(call[1], options.method ?? 'GET', options.params ?? {}, options.data);
    }
    return { data, status: 200, ok: true, statusText: 'OK', headers: new Headers(), url, config: options, type: 'basic', redirected: false };
  } finally {
    progress.open -= 1;
  }
}

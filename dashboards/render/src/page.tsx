// Opens a dashboard as an address says, draws it, and reports what each panel got.
// /?dashboard=UID&from=MS&to=MS&theme=light&scrape=1m&var-NAME=VALUE
import { LoadingState, ThemeContext, formattedValueToString, getFieldDisplayName } from '@grafana/data';
import {
  EmbeddedScene, DataSourceVariable, QueryVariable, SceneControlsSpacer, SceneDataTransformer, SceneGridItem, SceneGridLayout, SceneGridRow,
  SceneQueryRunner, SceneTimePicker, SceneTimeRange, SceneVariableSet, VariableValueSelectors, VizPanel, dataLayers, SceneDataLayerSet, sceneGraph,
} from '@grafana/scenes';
import { GlobalStyles } from '@grafana/ui';
import { createRoot } from 'react-dom/client';
import { start } from './grafana';
import { displayed, plugins } from './panels';
import { progress, sent } from './server';

const chosen = new URLSearchParams(location.search);
const errors: string[] = [];
window.addEventListener('error', ({ message }) => errors.push(message));
window.addEventListener('unhandledrejection', ({ reason }) => errors.push(String(reason?.message ?? reason)));

const ROW = 38; // pixels of the grid: 30 and a margin of 8
let scene: EmbeddedScene;
let layers: SceneDataLayerSet;

function variable(model: any): any {
  const { name, label, hide, skipUrlSync } = model;
  if (model.type === 'datasource') {
    return new DataSourceVariable({ name, label, hide, skipUrlSync: true, pluginId: model.query, value: 'prometheus', text: 'Prometheus' });
  }
  const values = chosen.getAll(`var-${name}`);
  const value = values.length ? (model.multi ? values : values[0]) : model.current?.value ?? '';
  return new QueryVariable({
    name, label, hide, skipUrlSync, value, text: value, query: model.query, datasource: model.datasource, sort: model.sort, refresh: model.refresh,
    regex: model.regex, allValue: model.allValue || undefined, includeAll: model.includeAll, defaultToAll: Boolean(model.includeAll), isMulti: model.multi,
  });
}

function panel(model: any): VizPanel {
  const { id, title, description, type, options, fieldConfig, targets, datasource, maxDataPoints, interval, transformations = [] } = model;
  const $data = new SceneDataTransformer({
    $data: new SceneQueryRunner({ queries: targets, datasource, maxDataPoints, minInterval: interval }),
    transformations,
  });
  return new VizPanel({ key: `panel-${id}`, title, description, pluginId: type, options, fieldConfig, $data });
}

function gridItem(model: any): any {
  const { x, y, w, h } = model.gridPos;
  if (model.type === 'row') return new SceneGridRow({ title: model.title, isCollapsed: false, y, children: [] });
  return new SceneGridItem({ x, y, width: w, height: h, isResizable: false, isDraggable: false, body: panel(model) });
}

function arranged(models: any[]): any[] {
  // Panels below an open row are its children here, and its neighbours in the file.
  const items: any[] = [];
  for (const item of models.map(gridItem)) {
    const last = items.at(-1);
    if (last instanceof SceneGridRow && !(item instanceof SceneGridRow)) last.setState({ children: [...last.state.children, item] });
    else items.push(item);
  }
  return items;
}

function time(name: string, otherwise: string): string {
  const given = chosen.get(name) ?? otherwise;
  return /^\d+$/.test(given) ? new Date(Number(given)).toISOString() : given;
}

function opened(dashboard: any): EmbeddedScene {
  layers = new SceneDataLayerSet({
    layers: dashboard.annotations.list.map((query: any) => new dataLayers.AnnotationsDataLayer({ name: query.name, query, isEnabled: true, isHidden: true })),
  });
  return new EmbeddedScene({
    $timeRange: new SceneTimeRange({ from: time('from', dashboard.time.from), to: time('to', dashboard.time.to), timeZone: 'utc' }),
    $variables: new SceneVariableSet({ variables: dashboard.templating.list.map(variable) }),
    $data: layers,
    controls: [new VariableValueSelectors({}), new SceneControlsSpacer(), new SceneTimePicker({})],
    body: new SceneGridLayout({ children: arranged(dashboard.panels), isDraggable: false, isResizable: false }),
  });
}

function shown(viz: VizPanel): any {
  const data = viz.applyFieldConfig(viz.state.$data!.state.data);
  const { pluginId, fieldConfig, options } = viz.state;
  const cell = (display: any) => ({ text: formattedValueToString(display).trim(), colour: display.color, number: display.numeric });
  if (pluginId === 'stat') {
    return displayed({ data, fieldConfig, options, replaceVariables: viz.interpolate } as any).map(({ display }) => ({ title: display.title, ...cell(display) }));
  }
  if (pluginId === 'table') {
    const [frame] = data.series;
    if (!frame) return [];
    const columns = frame.fields.filter((field) => !field.config.custom?.hideFrom?.viz);
    return Array.from({ length: frame.length }, (_, row) => Object.fromEntries(columns.map((field) => [
      getFieldDisplayName(field, frame, data.series),
      { ...cell(field.display!(field.values[row])), href: field.getLinks?.({ valueRowIndex: row })[0]?.href },
    ])));
  }
  return data.series.filter((frame) => frame.length).map((frame) => {
    const [at, values] = frame.fields;
    const points = values.values.map((value, index) => [at.values[index] / 1000, value, ...(pluginId === 'timeseries' ? [] : [values.display!(value).text])]);
    return { title: getFieldDisplayName(values, frame, data.series), points, last: cell(values.display!(values.values.at(-1))) };
  });
}

function report(dashboard: any): any {
  const panels = dashboard.panels.filter(({ type }: any) => type !== 'row').map(({ id, title, type }: any) => {
    const viz = sceneGraph.findByKey(scene, `panel-${id}`) as VizPanel;
    const data = viz.state.$data!.state.data;
    const drawn = document.querySelector<HTMLElement>(`[data-viz-panel-key="panel-${id}"]`);
    const error = data?.errors?.[0]?.message ?? (data?.error as any)?.data?.error ?? data?.error?.message;
    return { title, type, error, shown: shown(viz), drawn: drawn?.innerText ?? '' };
  });
  const variables = scene.state.$variables!.state.variables.map(({ state }: any) => [state.name, { value: state.value, options: state.options?.map(({ value }: any) => value) }]);
  const annotations = layers.state.layers.map(({ state }: any) => [state.name, (state.data?.series ?? []).map((frame: any) => frame.length)]);
  return { panels, variables: Object.fromEntries(variables), annotations: Object.fromEntries(annotations), errors, sent };
}

function settled(dashboard: any): boolean {
  const waiting = dashboard.panels.some(({ id, type }: any) => {
    if (type === 'row') return false;
    const content = document.querySelector(`[data-viz-panel-key="panel-${id}"] [data-testid="data-testid panel content"]`);
    if (!content?.hasChildNodes()) return true;
    const state = (sceneGraph.findByKey(scene, `panel-${id}`) as VizPanel).state.$data?.state.data?.state;
    return state !== LoadingState.Done && state !== LoadingState.Error;
  });
  return !waiting && !progress.open;
}

async function main(): Promise<void> {
  const dashboard = await (await fetch(`/dashboards/${chosen.get('dashboard')}.json`)).json();
  const choice = { dark: chosen.get('theme') !== 'light', scrape: chosen.get('scrape') ?? '1m', specialCharacters: chosen.has('specialCharacters') };
  const theme = start(choice, plugins(dashboard.panels), () => scene);
  scene = opened(dashboard);
  Object.assign(window, { __grafanaSceneContext: scene, opened: { report: () => report(dashboard), settled: () => settled(dashboard) } });
  const rows = Math.max(...dashboard.panels.map(({ gridPos }: any) => gridPos.y + gridPos.h));
  const Page: any = scene.Component;
  const style = { background: theme.colors.background.canvas, height: rows * ROW + 72, padding: 8, display: 'flex', flexDirection: 'column' as const };
  createRoot(document.getElementById('root')!).render(
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <div style={style}><Page model={scene} /></div>
    </ThemeContext.Provider>
  );
}

main().catch((error) => errors.push(String(error.stack)));

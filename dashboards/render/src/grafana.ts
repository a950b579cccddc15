// Grafana's runtime: themes, registries and services, as its application sets them up.
import {
  EventBusSrv, LoadingState, PanelPlugin, booleanOverrideProcessor, createTheme, dataLinksOverrideProcessor,
  displayNameOverrideProcessor, identityOverrideProcessor, locationUtil, numberOverrideProcessor, preProcessPanelData,
  standardEditorsRegistry, standardFieldConfigEditorRegistry, standardTransformers, standardTransformersRegistry,
  stringOverrideProcessor, thresholdsOverrideProcessor, toDataFrame, unitOverrideProcessor, valueMappingsOverrideProcessor,
} from '@grafana/data';
import { PrometheusDatasource } from '@grafana/prometheus';
import {
  config, setAppEvents, setBackendSrv, setDataSourceSrv, setEchoSrv, setPluginImportUtils, setRunRequest, setTemplateSrv,
} from '@grafana/runtime';
import { sceneGraph } from '@grafana/scenes';
import { from, of } from 'rxjs';
import { catchError, map } from 'rxjs/operators';
import { respond } from './server';

const NOTHING: any = () => null;

function settings(): any {
  const option = (id: string, process: unknown, defaultValue?: unknown) => ({
    id, path: id, name: id, editor: NOTHING, override: NOTHING, process, defaultValue, settings: {}, shouldApply: () => true,
  });
  return [
    option('unit', unitOverrideProcessor), option('min', numberOverrideProcessor), option('max', numberOverrideProcessor),
    option('decimals', numberOverrideProcessor), option('displayName', displayNameOverrideProcessor),
    option('noValue', stringOverrideProcessor), option('links', dataLinksOverrideProcessor),
    option('color', identityOverrideProcessor, { mode: 'thresholds' }), option('filterable', booleanOverrideProcessor),
    option('mappings', valueMappingsOverrideProcessor, []),
    option('thresholds', thresholdsOverrideProcessor, { mode: 'absolute', steps: [{ value: -Infinity, color: 'green' }] }),
  ];
}

function transformations(): any {
  const known = new Map(Object.values(standardTransformers).map((each: any) => [each.id, each]));
  return [...known.values()].map((each: any) => ({
    id: each.id, name: each.name, aliasIds: each.aliasIds, transformation: each, editor: NOTHING, imageDark: '', imageLight: '',
  }));
}

function runRequest(datasource: any, request: any, custom?: any): any {
  // A variable's query returns texts, not frames.
  if (custom) return custom(request).pipe(map((found: any) => ({ state: LoadingState.Done, series: found.data ?? [], request, timeRange: request.range })));
  const finished = (response: any) => ({
    state: response.error || response.errors?.length ? LoadingState.Error : LoadingState.Done,
    series: (response.data ?? []).map((each: any) => toDataFrame(each)),
    error: response.error ?? response.errors?.[0],
    errors: response.errors,
    annotations: [],
    request,
    timeRange: request.range,
  });
  const failed = (error: any) => of({ state: LoadingState.Error, series: [], error, request, timeRange: request.range });
  return from(datasource.query(request)).pipe(
    map((response: any) => preProcessPanelData(finished(response) as any, undefined as any)),
    catchError(failed)
  );
}

export interface Choice {
  dark: boolean;
  scrape: string;
  specialCharacters: boolean;
}

export function start(choice: Choice, plugins: Record<string, PanelPlugin<any>>, scene: () => any): any {
  const theme = createTheme({ colors: { mode: choice.dark ? 'dark' : 'light' } });
  const some: any = config;
  Object.assign(some, { theme2: theme, theme: theme.v1, appSubUrl: '', panels: {} });
  some.bootData = { settings: {}, user: { timezone: 'utc', locale: 'en' }, navTree: [] };
  some.featureToggles.prometheusSpecialCharsInLabelValues = choice.specialCharacters;
  locationUtil.initialize({ config: some, getTimeRangeForUrl: () => ({ from: 'now-30d', to: 'now' }) as any, getVariablesUrlParams: () => ({}) });

  const editors = ['text', 'number', 'slider', 'boolean', 'select', 'multi-select', 'unit', 'color', 'fieldColor', 'links', 'actions', 'mappings', 'thresholds', 'strings', 'stats-picker', 'field-name'];
  standardEditorsRegistry.setInit(() => editors.map((id) => ({ id, name: id, editor: NOTHING })) as any);
  standardFieldConfigEditorRegistry.setInit(settings);
  standardTransformersRegistry.setInit(transformations);

  const answered = (options: any) => from(respond(options, choice.scrape));
  setBackendSrv({ fetch: answered, get: async () => ({}), post: async () => ({}) } as any);
  const templates: any = {
    replace: (text: any, scoped: any, format: any) => sceneGraph.interpolate(scoped?.__sceneObject?.value?.valueOf?.() ?? scene(), text, scoped, format),
    getVariables: () => [], containsTemplate: (text: any) => /\$/.test(text ?? ''), updateTimeRange: () => {}, getAdhocFilters: () => [],
  };
  setTemplateSrv(templates);
  const instance: any = {
    id: 1, uid: 'prometheus', name: 'Prometheus', type: 'prometheus', access: 'proxy', url: '/prometheus', isDefault: true, readOnly: false,
    jsonData: { timeInterval: choice.scrape, httpMethod: 'POST', prometheusType: 'Prometheus', prometheusVersion: '2.50.1' },
    meta: { id: 'prometheus', name: 'Prometheus', type: 'datasource', metrics: true, annotations: true, info: { logos: { small: '', large: '' } }, module: '', baseUrl: '' },
  };
  const prometheus: any = new PrometheusDatasource(instance, templates);
  Object.assign(prometheus, { meta: instance.meta, name: instance.name, getRef: () => ({ type: 'prometheus', uid: 'prometheus' }) });
  setDataSourceSrv({ get: async () => prometheus, getInstanceSettings: () => instance, getList: () => [instance], reload: () => {} } as any);
  setEchoSrv({ flush: () => {}, addBackend: () => {}, addEvent: () => {} } as any);
  setAppEvents(new EventBusSrv());
  setRunRequest(runRequest as any);
  setPluginImportUtils({ importPanelPlugin: async (id: string) => plugins[id], getPanelPluginFromCache: (id: string) => plugins[id] } as any);
  return theme;
}

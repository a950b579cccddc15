// Grafana's schema of the dashboards' JSON; tests write the JSON beside this file and compile it.
import type { Dashboard, FieldConfigSource, GraphFieldConfig, TableFieldOptions } from '@grafana/schema';
import type { Options as StatOptions } from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type { Options as TimelineOptions, FieldConfig as TimelineConfig } from '@grafana/schema/dist/esm/raw/composable/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen';
import type { Options as TableOptions } from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type { Options as LinesOptions } from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

// JSON has the values of enumerations and not their members.
type Plain<T> = T extends string ? `${T}` : T extends number ? number : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;

// The data source's additions to Grafana's types.
type Annotation = { expr: string; step: string; titleFormat?: string; tagKeys?: string; useValueForTime?: boolean };

type Own = Plain<Omit<Dashboard, 'id' | 'panels' | 'annotations' | 'templating'>>;
type Query = Plain<NonNullable<NonNullable<Dashboard['annotations']>['list']>[number]>;
type Variable = Plain<NonNullable<NonNullable<Dashboard['templating']>['list']>[number]>;

export interface Judged extends Own {
  id: null;
  annotations: { list: Array<Query & Annotation> };
  templating: { list: Array<Variable & { definition?: string }> };
}

interface Kind<Options, Custom> {
  options: Plain<Partial<Options>>;
  custom?: Plain<Partial<Custom>>;
  overrides: Plain<FieldConfigSource['overrides']>;
}

export interface Kinds {
  stat: Kind<StatOptions, never>;
  table: Kind<TableOptions & { footer: { enablePagination: boolean; show: boolean } }, TableFieldOptions>;
  timeseries: Kind<LinesOptions, GraphFieldConfig>;
  'state-timeline': Kind<TimelineOptions, TimelineConfig>;
}

// The panels. Grafana's components draw them; no package has the code around them.
import {
  FieldType, PanelPlugin, PanelProps, VizOrientation, cacheFieldDisplayNames, getDisplayValueAlignmentFactors, getFieldDisplayName, getFieldDisplayValues,
  identityOverrideProcessor,
} from '@grafana/data';
import { config } from '@grafana/runtime';
import { BigValue, TimeSeries, VizRepeater } from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';
import { useMemo } from 'react';

type Props = PanelProps<any>;

export function displayed({ data, fieldConfig, options, replaceVariables }: Pick<Props, 'data' | 'fieldConfig' | 'options' | 'replaceVariables'>) {
  return getFieldDisplayValues({
    data: data.series, fieldConfig, reduceOptions: options.reduceOptions, replaceVariables, theme: config.theme2,
  });
}

function Stat(props: Props) {
  const { colorMode, graphMode, justifyMode, textMode } = props.options;
  return (
    <VizRepeater
      getValues={() => displayed(props)}
      getAlignmentFactors={getDisplayValueAlignmentFactors}
      renderValue={({ value, count, width, height, alignmentFactors }: any) => (
        <BigValue
          value={count === 1 ? { ...value.display, title: '' } : value.display}
          theme={config.theme2}
          {...{ count, colorMode, graphMode, justifyMode, textMode, alignmentFactors, width, height }}
        />
      )}
      orientation={VizOrientation.Auto}
      {...{ width: props.width, height: props.height, source: props.data, renderCounter: props.renderCounter, autoGrid: true, itemSpacing: 3 }}
    />
  );
}

function Empty({ fieldConfig }: Pick<Props, 'fieldConfig'>) {
  const style = { display: 'flex', height: '100%', alignItems: 'center', justifyContent: 'center', textAlign: 'center' as const };
  return <div data-empty style={{ ...style, color: config.theme2.colors.text.secondary }}>{fieldConfig.defaults.noValue ?? 'No data'}</div>;
}

function Table(props: Props) {
  const [frame] = props.data.series;
  cacheFieldDisplayNames(props.data.series);
  if (!frame?.fields.length) return <Empty {...props} />;
  const { showHeader, sortBy, cellHeight, enablePagination } = props.options;
  return (
    <TableNG
      data={frame}
      initialSortBy={sortBy}
      noHeader={!showHeader}
      resizable
      getActions={() => []}
      structureRev={props.data.structureRev}
      {...{ width: props.width, height: props.height, timeRange: props.timeRange, fieldConfig: props.fieldConfig, cellHeight, enablePagination }}
    />
  );
}

function Lines(props: Props) {
  const frames = useMemo(() => {
    cacheFieldDisplayNames(props.data.series);
    return props.data.series.filter((frame) => frame.length && frame.fields.some(({ type }) => type === FieldType.number));
  }, [props.data.series]);
  if (!frames.length) return <Empty {...props} />;
  const { width, height, options, timeRange, timeZone, replaceVariables } = props;
  return (
    <TimeSeries
      frames={frames}
      structureRev={props.data.structureRev ?? 1}
      legend={{ calcs: [], ...options.legend }}
      {...{ width, height, options, timeRange, timeZone, replaceVariables }}
    />
  );
}

// Not Grafana's: its timeline is in no package. Colours and words come from the field's mappings all the same.
function Timeline({ data, fieldConfig, width, height, timeRange }: Props) {
  const frames = data.series.filter((frame) => frame.length);
  if (!frames.length) return <Empty fieldConfig={fieldConfig} />;
  const names = Math.min(180, width / 3);
  const [start, end] = [timeRange.from.valueOf(), timeRange.to.valueOf()];
  const across = (at: number) => names + ((Math.min(at, end) - start) / (end - start)) * (width - names);
  const band = height / frames.length;
  return (
    <svg width={width} height={height} fontSize={11} fill={config.theme2.colors.text.primary}>
      {frames.map((frame, row) => {
        const [time, states] = frame.fields;
        const step = time.config.interval ?? 0;
        return (
          <g key={row} transform={`translate(0 ${row * band})`}>
            <text y={band / 2 + 4}>{getFieldDisplayName(states, frame, data.series).slice(0, 28)}</text>
            {runs(time.values, states.values, step).map(([from, to, value]) => {
              const { text, color } = states.display!(value);
              const [left, wide] = [across(from), across(to) - across(from)];
              return (
                <g key={from} transform={`translate(${left} ${band * 0.1})`}>
                  <rect width={Math.max(1, wide)} height={band * 0.8} fill={color} fillOpacity={0.8} />
                  {wide > 7 * text.length + 8 && <text x={4} y={band * 0.4 + 4} fill="black">{text}</text>}
                </g>
              );
            })}
          </g>
        );
      })}
    </svg>
  );
}

// Spans of time with one value, without a gap.
function runs(times: number[], values: unknown[], step: number): Array<[number, number, unknown]> {
  const found: Array<[number, number, unknown]> = [];
  times.forEach((at, index) => {
    const last = found.at(-1);
    if (last && last[1] === at && last[2] === values[index]) last[1] += step;
    else found.push([at, at + step, values[index]]);
  });
  return found;
}

// Grafana learns of a panel's own settings from its plugin; here, from the dashboard that uses them.
function plugin(component: (props: Props) => JSX.Element, colour: string, own: string[]): PanelPlugin<any> {
  const made = new PanelPlugin<any>(component);
  made.useFieldConfig({
    standardOptions: { color: { defaultValue: { mode: colour } } },
    useCustomConfig: (builder: any) => {
      for (const path of own) {
        const nothing: any = () => null;
        builder.addCustomEditor({ id: path, path, name: path, editor: nothing, override: nothing, process: identityOverrideProcessor, shouldApply: () => true, defaultValue: undefined });
      }
    },
  } as any);
  return made;
}

function ownSettings(panels: any[], type: string): string[] {
  const used = panels.filter((panel) => panel.type === type).flatMap(({ fieldConfig: { defaults, overrides } }) => [
    ...Object.keys(defaults.custom ?? {}),
    ...overrides.flatMap((each: any) => each.properties.map(({ id }: any) => /^custom\.(\w+)/.exec(id)?.[1]).filter(Boolean)),
  ]);
  return [...new Set(used)];
}

const KINDS: Record<string, [(props: Props) => JSX.Element, string]> = {
  stat: [Stat, 'thresholds'], table: [Table, 'thresholds'],
  timeseries: [Lines, 'palette-classic'], 'state-timeline': [Timeline, 'thresholds'],
};

export function plugins(panels: any[]): Record<string, PanelPlugin<any>> {
  const made = Object.entries(KINDS).map(([id, [component, colour]]) => {
    const one = plugin(component, colour, ownSettings(panels, id));
    one.meta = { id, name: id, type: 'panel', info: { version: '12.4.10', logos: { small: '', large: '' } }, module: '', baseUrl: '', sort: 1 } as any;
    return [id, one];
  });
  return Object.fromEntries(made);
}

// The dashboards' JSON against the types that Grafana publishes (npm: @grafana/schema), a key that no type knows included.
// What those types leave open is closed here: options by kind of panel, and what Prometheus' plugin reads of a query.
import type { AnnotationQuery, Dashboard, DataSourceRef, Panel, RowPanel, VariableModel } from '@grafana/schema';
import type { Options as BarGauge } from '@grafana/schema/dist/esm/raw/composable/bargauge/panelcfg/x/BarGaugePanelCfg_types.gen';
import type { Options as Stat } from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type { FieldConfig as BandField, Options as Band } from '@grafana/schema/dist/esm/raw/composable/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen';
import type { FieldConfig as TableField, Options as Table } from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type { FieldConfig as CurveField, Options as Curve } from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

// In JSON an enum is written by its value.
type Json<T> = T extends string
  ? string extends T ? string : `${T}`
  : T extends (infer U)[] ? Json<U>[]
  : T extends object ? { [K in keyof T]: Json<T[K]> }
  : T;

interface Query {
  refId: string;
  datasource: DataSourceRef;
  expr: string;
  legendFormat: string;
  instant: boolean;
  range: boolean;
  editorMode: 'code';
  format?: 'table';
}

type Placed = Omit<Panel, 'id' | 'title' | 'description' | 'gridPos' | 'targets' | 'type' | 'options' | 'fieldConfig'> &
  Required<Pick<Panel, 'id' | 'title' | 'description' | 'gridPos'>> & { targets: Query[] };
type Defaults<Custom> = Omit<NonNullable<Panel['fieldConfig']>['defaults'], 'custom'> & { custom?: Custom };
type Field<Custom> = Omit<NonNullable<Panel['fieldConfig']>, 'defaults'> & { defaults: Defaults<Custom> };
type Of<Kind extends string, Options, Custom = never> = Placed & { type: Kind; options: Options; fieldConfig: Field<Custom> };

type AnyPanel =
  | Of<'timeseries', Curve, CurveField>
  | Of<'stat', Stat>
  | Of<'bargauge', BarGauge>
  | Of<'state-timeline', Band, BandField>
  | Of<'table', Table, Partial<TableField>>
  | RowPanel;

interface Marks extends AnnotationQuery {
  expr?: string;
  step?: string;
  titleFormat?: string;
  textFormat?: string;
  tagKeys?: string;
  useValueForTime?: 'on' | false;
}

export type Board = Json<
  Omit<Dashboard, 'panels' | 'annotations' | 'templating'> & {
    uid: string;
    panels: AnyPanel[];
    annotations: { list: Marks[] };
    templating: { list: (VariableModel & { definition?: string })[] };
  }
>;

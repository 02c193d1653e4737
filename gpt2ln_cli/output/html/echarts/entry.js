// What the report needs of Apache ECharts, and nothing else; see package.json for the build.
export { getInstanceByDom, init } from "echarts/core";
import { use } from "echarts/core";
import { CustomChart, HeatmapChart } from "echarts/charts";
import {
  DataZoomInsideComponent,
  DataZoomSliderComponent,
  GridComponent,
  TooltipComponent,
  VisualMapContinuousComponent,
} from "echarts/components";
import { CanvasRenderer } from "echarts/renderers";

use([
  CanvasRenderer,
  CustomChart,
  DataZoomInsideComponent,
  DataZoomSliderComponent,
  GridComponent,
  HeatmapChart,
  TooltipComponent,
  VisualMapContinuousComponent,
]);

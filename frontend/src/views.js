// The pictures of a study that the chart can show.
//
// Each is a class made for a study, a size and options, and thrown away when one of them changes.
// Its options: `x` and `objective`, the axes; `zoom`, a range of x or null; `isWhole`, whether
// outliers are shown at their place; `isDimmed`, which trials stand back, and `isHidden`, which
// proposers; `styles` of the proposers; `theme`; for cases `cases`, `rows`, `shown`, `sign` and
// `orderWords`; for parameters `chosen`, the ranges dragged over.
//
// It can `paint(context)`, `paintSelection(context, selected, against)`,
// `paintDrag(context, from, to)`, find the trial `nearest(x, y, reach)` to a pixel, and tell what
// of the x axis is at one (`toData`); its `findRange(study, options)` has all trials.
import { HeatMap } from "./heat.js";
import { Lineage } from "./lineage.js";
import { Parallel } from "./parallel.js";
import { listNames } from "./params.js";
import { ProposerSeries, Series } from "./series.js";

export const VIEWS = {
  lineage: { label: "lineage", Picture: Lineage, axes: "all", hasRange: true, hasZoom: true, isOffered: () => true },
  best: { label: "best so far", Picture: Series, axes: "line", hasRange: true, hasZoom: true, isOffered: () => true },
  proposers: {
    label: "best by proposer", Picture: ProposerSeries, axes: "line", hasRange: true, hasZoom: true,
    isOffered: (study) => study.proposers.length > 1,
  },
  cases: {
    label: "cases", Picture: HeatMap, hasZoom: true, isForCases: true, ramp: "heat",
    isOffered: (study) => study.trials.some((t) => t.n_cases),
  },
  parameters: {
    label: "parameters", Picture: Parallel, ramp: "good", hasRange: true,
    isOffered: (study) => listNames(study).length > 0,
  },
};

// The axes of a chart: from data to pixels and back, and how they are painted.
import { formatNumber, reveal } from "./format.js";
import { ticks } from "./scales.js";

const LEFT = 62;
const RIGHT = 14;
const TOP = 12;
const BOTTOM = 40;
const LANE = 22;

/**
 * Two axes on a canvas of some size. `xRange` and `yRange` are for its owner to set; with a lane
 * there is room below for what has no value.
 */
export class Frame {
  left = LEFT;
  top = TOP;
  xRange = [0, 1];
  yRange = [0, 1];

  constructor(width, height, hasLane) {
    Object.assign(this, { width, height, hasLane });
    this.right = width - RIGHT;
    this.base = height - BOTTOM;
    this.bottom = this.base - (hasLane ? LANE : 0);
    this.laneY = this.base - LANE / 2 + 3;
  }

  toX(n) {
    const [low, high] = this.xRange;
    return LEFT + ((n - low) / (high - low)) * (this.right - LEFT);
  }

  toY(n) {
    const [low, high] = this.yRange;
    return TOP + ((high - n) / (high - low)) * (this.bottom - TOP);
  }

  /** The value of the x axis at a pixel. */
  toData(pixel) {
    const [low, high] = this.xRange;
    return low + ((pixel - LEFT) / (this.right - LEFT)) * (high - low);
  }

  /** Paint nothing outside of the axes until the context is restored. */
  clip(context) {
    context.save();
    context.beginPath();
    context.rect(LEFT - 10, 0, this.right - LEFT + 20, this.height);
    context.clip();
  }

  /** The part of the x axis that is being dragged over. */
  paintRange(context, from, to, color) {
    context.globalAlpha = 0.15;
    context.fillStyle = color;
    context.fillRect(from, TOP, to - from, this.base - TOP);
    context.globalAlpha = 1;
  }

  /** The axes with their ticks and labels. */
  paint(context, theme, x, yLabel) {
    const rule = (y) => {
      context.beginPath();
      context.moveTo(LEFT, y);
      context.lineTo(this.right, y);
      context.stroke();
    };
    Object.assign(context, { strokeStyle: theme.grid, fillStyle: theme.muted, lineWidth: 1, textBaseline: "middle", textAlign: "right" });
    for (const n of ticks(this.yRange, (this.bottom - TOP) / 50)) {
      const y = Math.round(this.toY(n)) + 0.5;
      rule(y);
      context.fillText(formatNumber(n, 4), LEFT - 10, y);
    }
    if (this.hasLane) {
      context.fillText("no value", LEFT - 10, this.laneY);
      context.setLineDash([2, 4]);
      rule(this.bottom + 2.5);
      context.setLineDash([]);
    }
    context.textAlign = "center";
    for (const n of x.ticks(this.xRange, Math.max(2, (this.right - LEFT) / 90))) {
      context.fillText(x.format(n), this.toX(n), this.base + 14);
    }
    context.fillText(reveal(x.label).slice(0, 60), (LEFT + this.right) / 2, this.height - 8);
    context.save();
    context.translate(10, (TOP + this.bottom) / 2);
    context.rotate(-Math.PI / 2);
    context.fillText(reveal(yLabel).slice(0, 40), 0, 0);
    context.restore();
  }
}

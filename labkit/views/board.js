// A board in the browser: panels as the kernel sketches them, its dials, and a cursor that picks cells with pointer or arrow keys.
import { bannerRule, drawBanner, drawFooter, EDGE, footerLines } from "./canvas/banner.js";
import { makeDials } from "./canvas/dials.js";
import { makeFrame, paintElements, placeAt, toggleTable, zone } from "./canvas/elements.js";
import { makeRoot, makeSender, runView } from "./canvas/host.js";
import { cellAt, drawSketch, flowPanels } from "./canvas/sketch.js";
import { sheet } from "./canvas/tables.js";

const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

function render({ model, el }) {
  const root = makeRoot(el, "board"), send = makeSender(model), { canvas, rest } = makeFrame(root);
  const dials = makeDials(root, (name, value, dragging) => send({ kind: `turn ${name}`, name, value }, dragging));
  const board = zone(root, "board", "application", "Arrow keys move the cursor over the cells");
  const ui = { canvas, board, ...rest(), paint: (palette) => paintElements(root, palette) };
  let frame = null, layout = null;
  const bannerOf = ({ title, about, badge }) => ({ title, counters: [[[about]]], badge });
  const tableHtml = () => sheet(frame.head.table.caption, frame.head.table.heads, frame.head.table.rows);

  const host = runView({
    model, el, root, ui, send, style: STYLE,
    view: {
      fold(next) {
        frame = next;
        dials.show(frame.head.dials);
        root.dataset.status = frame.head.status;
        if (!ui.sheet.hidden) ui.sheet.innerHTML = tableHtml();
        return true;
      },
      layout(ctx, palette, width) {
        const rule = bannerRule(ctx, palette, bannerOf(frame.head), width);
        Object.assign(dials.row.style, { left: `${EDGE}px`, top: `${rule + 8}px`, width: `${width - 2 * EDGE}px` });
        const top = rule + 16 + (dials.row.hidden ? 0 : dials.row.offsetHeight + 6), { places, height } = flowPanels(frame.head.panels, width - 2 * EDGE);
        const foot = { y: top + height + 30, line: 15 };
        return (layout = { width, rule, top, places, foot, height: foot.y + (footerLines(ctx, palette, frame.head.footer, width) - 1) * foot.line + 12 });
      },
      placed(layout) {
        placeAt(ui.board, EDGE - 6, layout.top - 6, layout.width - 2 * EDGE + 12, layout.foot.y - layout.top - 12);
        Object.assign(ui.table.style, { right: "20px", top: `${layout.foot.y - 17}px` });
      },
      draw(ctx, { layout }, palette) {
        ctx.fillStyle = palette.paper;
        ctx.fillRect(0, 0, layout.width, layout.height);
        drawBanner(ctx, palette, bannerOf(frame.head), layout);
        layout.places.forEach(({ x, y, scale }, n) => {
          ctx.save();
          ctx.translate(EDGE + x, layout.top + y);
          ctx.scale(scale, scale);
          ctx.kvFont = "";
          drawSketch(ctx, palette, frame, n);
          ctx.restore();
          ctx.kvFont = "";
        });
        drawFooter(ctx, palette, frame.head.footer, layout);
      },
      moving: () => false,
      shown: () => ui.canvas.setAttribute("aria-label", frame.head.alt),
      spoken: () => frame.head.alt,
      retheme() {},
    },
  });

  const pointed = (event) => {
    const box = ui.canvas.getBoundingClientRect();
    return layout && cellAt(frame.head.panels, layout.places, EDGE, layout.top, event.clientX - box.left, event.clientY - box.top);
  };
  ui.canvas.addEventListener("pointermove", (event) => {
    const cell = pointed(event);
    ui.canvas.style.cursor = cell ? "pointer" : "default";
    if (cell && event.buttons & 1) pick(cell);
  });
  ui.canvas.addEventListener("pointerdown", (event) => {
    const cell = pointed(event);
    if (cell) pick(cell);
  });
  const pick = ({ target, row, column }) => send({ kind: "pick", target, row, column }, true);
  ui.table.addEventListener("click", () => frame && toggleTable(ui, tableHtml));
  ui.board.addEventListener("keydown", (event) => {
    const step = ARROWS[event.key];
    if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    const far = event.shiftKey ? 8 : 1;
    send({ kind: "move", rows: far * step[0], columns: far * step[1] });
  });
  return host.stop;
}

export default { render };

"use strict";

// The charts and controls of the page. Text from prompts and checkpoints reaches the page as textContent or on a canvas
// alone; every number comes from the JSON in #data.
(() => {
  const TOKEN_WIDTH = 15; // pixels from which a token's text has room under its column
  const PAGE = 10; // tokens that Page Up and Page Down move by
  const WIDEST = 72; // of a column, in pixels
  const APART = 6; // pixels at most that set position 0 apart
  const PRINT_WIDTH = 980;
  const FINGERS = matchMedia("(hover: none) and (pointer: coarse)");
  const STAGES = ["x, what enters", "x - mu, centred", "xhat = (x - mu) / sqrt(sigma^2 + eps)", "y = gain * xhat + bias"];

  const page = JSON.parse(document.getElementById("data").textContent);

  function shown(number, digits) {
    if (!Number.isFinite(number)) return "-";
    return number === 0 ? "0" : number.toPrecision(digits);
  }

  function counted(number, noun) {
    return `${number} ${noun}${number === 1 ? "" : "s"}`;
  }

  function element(tag, text, className) {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  }

  function color(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  }

  function tooltip(formatter) {
    return {
      trigger: "item",
      confine: true,
      transitionDuration: 0,
      backgroundColor: color("surface"),
      borderColor: color("muted"),
      formatter,
    };
  }

  function rowSizes(labels) {
    const [rowHeight, fontSize] = labels.length > 60 ? [12, 10] : [17, 12];
    return { rowHeight, fontSize, labelWidth: 14 + 0.55 * fontSize * Math.max(...labels.map((label) => label.length)) };
  }

  function unpacked(base64) {
    const bytes = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    return Float32Array.from({ length: bytes.length / 4 }, (_, index) => view.getFloat32(4 * index, true));
  }

  // Numbers as bars, a line for each from 0 on.

  function svg(tag, attributes) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, text] of Object.entries(attributes)) made.setAttribute(name, text);
    return made;
  }

  function barsOf(numbers, reach, label) {
    const box = { viewBox: `0 -1 ${numbers.length} 2`, preserveAspectRatio: "none", role: "img", "aria-label": label };
    const drawn = svg("svg", box);
    const lines = numbers.map((number, place) =>
      Number.isFinite(number) ? `M${place}.5 0V${(-number / reach).toFixed(3)}` : "",
    );
    drawn.append(svg("path", { class: "zero", d: `M0 0H${numbers.length}` }), svg("path", { d: lines.join("") }));
    return drawn;
  }

  function stepsFigure({ name, mean: mu, stages }, reaches) {
    const figure = element("figure");
    const head = element("figcaption", undefined, "strong");
    head.append(element("bdi", name));
    figure.append(head);
    stages.forEach((numbers, stage) => {
      const sum = (of) => numbers.reduce((total, number) => total + of(number), 0);
      const mean = [mu, 0, 0][stage] ?? sum((number) => number) / numbers.length;
      const sigma = Math.sqrt(sum((number) => (number - mean) ** 2) / numbers.length);
      const norm = Math.sqrt(sum((number) => number ** 2));
      // A byte a feature leaves two digits.
      const figures = `${stage ? "mean" : "mu"} ${shown(mean, 2)}, sigma ${shown(sigma, 2)}, norm ${shown(norm, 2)}`;
      const said = `from ${shown(-reaches[stage], 2)} to ${shown(reaches[stage], 2)}; ${figures}`;
      const band = element("p", `${STAGES[stage]} `, "band");
      band.append(element("span", said, "note"));
      figure.append(band, barsOf(numbers, reaches[stage], `${STAGES[stage]}: ${said}`));
    });
    return figure;
  }

  // A heatmap with its controls, whose elements' ids end in `end`.

  function drawGrid(data, end) {
    const siteCount = data.sites.length;
    const { rowHeight, fontSize, labelWidth } = rowSizes(data.sites);
    const tokenCount = data.sequences.reduce((sum, sequence) => sum + sequence.ids.length, 0);
    const values = unpacked(data.values);
    const byId = (id) => document.getElementById(id + end);
    const heatmapBox = byId("heatmap");

    let first = 0;
    for (const sequence of data.sequences) {
      sequence.first = first;
      first += sequence.ids.length;
    }

    const state = { quantity: data.quantity, sequence: 0, zero: true, log: false, site: 0, position: null, chosen: null, kept: null };
    let heatmap = null;
    let columns = []; // position of each column
    let shownIndex = null; // data index of the highlighted cell

    function value(quantity, site, position, sequence = data.sequences[state.sequence]) {
      return values[(quantity * siteCount + site) * tokenCount + sequence.first + position];
    }

    function tokenText(position) {
      return data.sequences[state.sequence].tokens[position];
    }

    // What is drawn: positions, and the colour scale, which is that of the later positions.

    function positions() {
      const all = Array.from({ length: data.sequences[state.sequence].ids.length }, (_, position) => position);
      return state.zero ? all : all.slice(1);
    }

    function logAllowed() {
      return !data.quantities[state.quantity].signed;
    }

    function extremes(wanted) {
      let least = null;
      let greatest = null;
      for (let site = 0; site < siteCount; site++) {
        for (const position of wanted) {
          const number = value(state.quantity, site, position);
          if (!Number.isFinite(number) || (state.log && number <= 0)) continue;
          if (least === null || number < least.number) least = { number, site, position };
          if (greatest === null || number > greatest.number) greatest = { number, site, position };
        }
      }
      return least && { least, greatest };
    }

    function scale() {
      const later = positions().filter((position) => position > 0);
      const found = extremes(later.length ? later : [0]);
      if (!found) return [0, 1];
      const ends = [found.least.number, found.greatest.number];
      if (logAllowed()) return ends;
      const reach = Math.max(...ends.map(Math.abs)); // 0 in the middle
      return [-reach, reach];
    }

    function onScale(number, least) {
      return state.log ? Math.log10(Math.max(number, least)) : number;
    }

    function cells(least) {
      const made = [];
      for (let site = 0; site < siteCount; site++) {
        columns.forEach((position, column) => {
          const number = value(state.quantity, site, position);
          made.push([column, site, Number.isFinite(number) ? onScale(number, least) : "-"]);
        });
      }
      return made;
    }

    function indexOf(site, position) {
      return site * columns.length + columns.indexOf(position);
    }

    // The heatmap.

    function plotWidth() {
      return heatmapBox.clientWidth - labelWidth - 12;
    }

    function zoom() {
      const option = heatmap.getOption().dataZoom[0];
      return [option.startValue, option.endValue];
    }

    function legibleWindow() {
      return Math.max(8, Math.floor(plotWidth() / TOKEN_WIDTH)) - 1;
    }

    function textsFit([start, end]) {
      return plotWidth() / (end - start + 1) >= TOKEN_WIDTH;
    }

    function labelAngle(window) {
      return { rotate: textsFit(window) ? 60 : 0 };
    }

    function columnLabel(column) {
      const position = columns[column];
      if (!textsFit(zoom())) return String(position);
      const text = tokenText(position) ?? ""; // a resized chart still asks for the columns that it had
      return text.length > 14 ? `${text.slice(0, 12)}...` : text;
    }

    function drawHeatmap({ window = [0, legibleWindow()] } = {}) {
      columns = positions();
      const [least, greatest] = scale();
      const low = onScale(least, least);
      const high = onScale(greatest, least);
      const quantity = data.quantities[state.quantity];
      const muted = color("muted");
      const coarse = matchMedia("(pointer: coarse)").matches;
      const zoomable = columns.length > legibleWindow() + 1;
      const printing = document.documentElement.classList.contains("printing");
      const spare = Math.max(0, plotWidth() - WIDEST * columns.length);
      heatmapBox.style.height = `${Math.max(300, rowHeight * siteCount + (zoomable && !printing ? 190 : 144))}px`;
      heatmap.resize();
      shownIndex = null;
      heatmap.setOption(
        {
          animation: false,
          textStyle: { fontFamily: getComputedStyle(document.body).fontFamily },
          grid: { left: labelWidth, right: 12 + spare, top: 52, bottom: zoomable && !printing ? 138 : 92 },
          xAxis: {
            type: "category",
            data: columns.map((_, column) => String(column)),
            axisLabel: {
              ...labelAngle([window[0], Math.min(window[1], columns.length - 1)]),
              color: muted,
              hideOverlap: true,
              formatter: (column) => columnLabel(Number(column)),
            },
            axisLine: { lineStyle: { color: color("line") } },
            axisTick: { show: false },
            splitLine: { show: false },
          },
          yAxis: {
            type: "category",
            data: data.sites,
            inverse: true,
            axisLabel: { color: muted, interval: 0, fontSize },
            axisLine: { show: false },
            axisTick: { show: false },
          },
          visualMap: {
            type: "continuous",
            seriesIndex: 0,
            dimension: 2,
            min: low,
            max: high > low ? high : low + (Math.abs(low) || 1) * 1e-9,
            calculable: false,
            hoverLink: false,
            orient: "horizontal",
            left: labelWidth,
            top: 4,
            padding: 0,
            itemWidth: 14,
            itemHeight: Math.min(220, plotWidth() - 150),
            text: [shown(greatest, 4), shown(least, 4)],
            textStyle: { color: color("text") },
            inRange: { color: logAllowed() ? page.colors : page.diverging },
          },
          dataZoom: zoomable
            ? [
                {
                  type: "slider",
                  xAxisIndex: 0,
                  show: !printing,
                  startValue: window[0],
                  endValue: Math.min(window[1], columns.length - 1),
                  bottom: 6,
                  height: 34,
                  left: labelWidth + 14,
                  right: 26,
                  showDataShadow: false,
                  showDetail: false,
                  brushSelect: false,
                  minValueSpan: 3,
                  handleSize: "110%",
                  borderColor: color("line"),
                  fillerColor: color("pale"),
                  handleStyle: { color: color("surface"), borderColor: color("muted") },
                  moveHandleStyle: { color: color("muted") },
                },
                ...(coarse ? [] : [{ type: "inside", xAxisIndex: 0, zoomOnMouseWheel: "ctrl", moveOnMouseWheel: false }]),
              ]
            : [{ type: "slider", show: false, startValue: 0, endValue: columns.length - 1 }],
          tooltip: tooltip(({ data: [column, site] }) => tip(site, columns[column])),
          series: [
            {
              type: "heatmap",
              name: quantity.label,
              data: cells(least),
              progressive: 0,
              emphasis: { itemStyle: { borderColor: color("text"), borderWidth: 2 } },
            },
            {
              type: "custom", // the gap after position 0
              silent: true,
              tooltip: { show: false },
              data: columns[0] === 0 && columns.length > 1 ? [[0, 0]] : [],
              renderItem: (params, api) => {
                const { y, height } = params.coordSys;
                const band = api.size([1, 1])[0];
                const width = Math.min(APART, band / 2);
                const x = api.coord([0, 0])[0] + band / 2 - width / 2;
                return { type: "rect", shape: { x, y, width, height }, style: { fill: color("surface") } };
              },
            },
          ],
        },
        { notMerge: true },
      );
      describe(least, greatest);
      updateWhole();
    }

    function tip(site, position) {
      const box = element("div", undefined, "tip");
      box.append(element("strong", `${data.sites[site]}, position ${position} ${tokenText(position)}`));
      const list = element("dl", undefined, "facts");
      data.quantities.forEach((quantity, index) => {
        const chosen = index === state.quantity;
        const number = shown(value(index, site, position), chosen ? page.digits : 4);
        list.append(element("dt", quantity.label, chosen ? "chosen" : ""), element("dd", number, chosen ? "chosen" : ""));
      });
      box.append(list);
      return box;
    }

    // Text beside the heatmap: what it shows, and the cell under the pointer or cursor.

    function describe(least, greatest) {
      const quantity = data.quantities[state.quantity];
      const sequence = data.sequences[state.sequence];
      const many = sequence.ids.length > 1;
      const found = extremes(many ? positions().filter((position) => position > 0) : [0]);
      const parts = [`${quantity.label}: ${quantity.description}`];
      if (!logAllowed()) parts.push("It can be negative: its scale is linear, blue below 0 and red above.");
      parts.push(
        `The colours go from ${shown(least, 4)} to ${shown(greatest, 4)} on a ${state.log ? "logarithmic" : "linear"} scale` +
          (many ? `, ${logAllowed() ? "the range" : "the reach"} of positions 1 and later.` : "."),
      );
      if (many && state.zero) parts.push("Position 0 stands apart; beyond that range it has the colour of its end.");
      const missing = data.sites.some((_, site) =>
        positions().some((position) => !Number.isFinite(value(state.quantity, site, position))),
      );
      if (missing) parts.push("Empty cells are NaN or infinite.");
      byId("explanation").textContent = parts.join(" ");
      const cut = sequence.ids.length < sequence.length ? ` (the first ${sequence.ids.length} of ${sequence.length})` : "";
      const prefix = data.sequences.length > 1 ? `Sequence ${state.sequence}: ` : "";
      const summary = [`${prefix}${counted(siteCount, "LayerNorm")}, ${counted(sequence.ids.length, "token")}${cut}.`];
      if (found) {
        const place = ({ number, site, position }) =>
          `${shown(number, 4)} (${data.sites[site]}, position ${position}, ${tokenText(position)})`;
        const which = many ? "At positions 1 and later" : "At position 0";
        summary.push(`${which}, ${quantity.label} is least at ${place(found.least)} and greatest at ${place(found.greatest)}.`);
        const zero = many && extremes([0]);
        if (zero) summary.push(`At position 0 it goes from ${place(zero.least)} to ${place(zero.greatest)}.`);
      }
      byId("alternative").textContent = summary.join(" ");
    }

    function readCell() {
      if (state.position === null) {
        byId("cell").textContent = FINGERS.matches
          ? "Touch a cell to read its values."
          : "Point at a cell, or move to it with the arrow keys, to read its values.";
        byId("others").textContent = "";
        return;
      }
      const { quantity, site, position } = state;
      const where = `${data.sites[site]}, position ${position} ${tokenText(position)}`;
      byId("cell").textContent =
        `${where}: ${data.quantities[quantity].label} ${shown(value(quantity, site, position), page.digits)}`;
      byId("others").textContent = data.quantities
        .map((one, index) => `${one.label} ${shown(value(index, site, position), 4)}`)
        .filter((_, index) => index !== quantity)
        .join("; ");
    }

    function point(site, position) {
      if (state.site === site && state.position === position) return;
      Object.assign(state, { site, position });
      readCell();
    }

    // The token that was clicked through the LayerNorm that was clicked, and one that was kept beside it.

    const carried = data.vectors && unpackedVectors(data.vectors);

    function unpackedVectors({ places, features, scales, bytes }) {
      const steps = Int8Array.from(atob(bytes), (char) => char.charCodeAt(0));
      return {
        cells: new Map(places.map(([site, column], index) => [`${site} ${column}`, index])),
        sites: new Set(places.map(([site]) => site)).size,
        tokens: new Set(places.map(([, column]) => column)).size,
        scales: unpacked(scales),
        read(index, part, by) {
          const start = (2 * index + part) * features;
          return Array.from(steps.subarray(start, start + features), (step) => (step === -128 ? NaN : step * by));
        },
      };
    }

    function stepsOf({ site, position, sequence }) {
      const index = carried.cells.get(`${site} ${sequence.first + position}`);
      if (index === undefined) return null;
      const [byX, divisor, byY] = carried.scales.subarray(3 * index, 3 * index + 3);
      const x = carried.read(index, 0, byX);
      const mean = value(data.mean, site, position, sequence);
      const centred = x.map((number) => number - mean);
      return {
        name: `${data.sites[site]}, position ${position} ${sequence.tokens[position]}`,
        mean,
        stages: [x, centred, centred.map((number) => number / divisor), carried.read(index, 1, byY)],
      };
    }

    function choose(site, position) {
      if (!carried) return;
      state.chosen = { site, position, sequence: data.sequences[state.sequence] };
      drawSteps();
    }

    function drawSteps() {
      const drawn = [state.kept, state.chosen].map((cell) => cell && stepsOf(cell)).filter(Boolean);
      const missing = state.chosen && !stepsOf(state.chosen);
      byId("keep").hidden = !state.kept && !drawn.length;
      byId("keep").textContent = state.kept ? "Show one token alone" : "Keep this one beside the next";
      const parts = [];
      if (!state.chosen) parts.push(`${FINGERS.matches ? "Touch" : "Click"} a cell to see its token's features.`);
      if (missing) {
        const [, layer, kind] = data.sites[state.chosen.site].split(".");
        const where = layer ? `--layer ${layer} --site ${kind}` : "--layer final";
        const words = `${where} --template {} --position ${state.chosen.position} -o steps.svg`;
        parts.push(`The page does not hold the features of this cell; to draw them: gpt2ln plot steps PROMPT ${words}`);
      }
      if (drawn.length) parts.push("Each bar is a feature. Tokens beside each other have one scale, and so have x and x - mu.");
      const tokens = carried.tokens === tokenCount ? `all ${tokenCount} tokens` : `the first ${carried.tokens} of ${tokenCount} tokens`;
      const sites = carried.sites === siteCount ? `all ${siteCount}` : `${carried.sites} of ${siteCount}`;
      parts.push(`This page holds those of ${tokens} at ${sites} LayerNorms.`);
      byId("steps-note").textContent = parts.join(" ");
      const reach = (...stages) => {
        const numbers = drawn.flatMap((one) => stages.flatMap((stage) => one.stages[stage])).filter(Number.isFinite);
        return numbers.reduce((most, number) => Math.max(most, Math.abs(number)), 0) || 1;
      };
      const reaches = [reach(0, 1), reach(0, 1), reach(2), reach(3)];
      byId("steps").replaceChildren(...drawn.map((one) => stepsFigure(one, reaches)));
    }

    // The keyboard.

    function moveTo(site, position) {
      point(site, position);
      choose(site, position);
      const column = columns.indexOf(position);
      const [start, end] = zoom();
      if (column < start || column > end) {
        const span = end - start;
        const from = Math.max(0, Math.min(column < start ? column : column - span, columns.length - 1 - span));
        heatmap.dispatchAction({ type: "dataZoom", dataZoomIndex: 0, startValue: from, endValue: from + span });
      }
      unmark();
      shownIndex = indexOf(site, position);
      heatmap.dispatchAction({ type: "highlight", seriesIndex: 0, dataIndex: shownIndex });
      heatmap.dispatchAction({ type: "showTip", seriesIndex: 0, dataIndex: shownIndex });
    }

    function unmark() {
      if (shownIndex !== null) heatmap.dispatchAction({ type: "downplay", seriesIndex: 0, dataIndex: shownIndex });
      shownIndex = null;
      heatmap.dispatchAction({ type: "hideTip" });
    }

    function onKey(event) {
      if (event.altKey || event.metaKey) return;
      if (event.key === "Escape") {
        unmark();
        return;
      }
      const drawn = positions();
      if (!drawn.length) return;
      const at = Math.max(0, drawn.indexOf(state.position ?? drawn[0]));
      const fresh = state.position === null; // the first key shows the first cell
      const step = (by) => drawn[Math.max(0, Math.min(drawn.length - 1, at + (fresh ? 0 : by)))];
      const row = (by) => Math.max(0, Math.min(siteCount - 1, state.site + (fresh ? 0 : by)));
      const moves = {
        ArrowLeft: () => [state.site, step(-1)],
        ArrowRight: () => [state.site, step(1)],
        ArrowUp: () => [row(-1), drawn[at]],
        ArrowDown: () => [row(1), drawn[at]],
        PageUp: () => [state.site, step(-PAGE)],
        PageDown: () => [state.site, step(PAGE)],
        Home: () => (event.ctrlKey ? [0, drawn[at]] : [state.site, drawn[0]]),
        End: () => (event.ctrlKey ? [siteCount - 1, drawn[at]] : [state.site, drawn[drawn.length - 1]]),
      };
      if (!Object.hasOwn(moves, event.key)) return;
      event.preventDefault();
      moveTo(...moves[event.key]());
    }

    // The controls.

    function options(select, texts) {
      select.replaceChildren(
        ...texts.map((text, index) => {
          const option = element("option", text);
          option.value = String(index);
          return option;
        }),
      );
    }

    function syncControls() {
      const allowed = logAllowed();
      if (!allowed) state.log = false;
      byId("log").disabled = !allowed;
      byId("log").checked = state.log;
      byId("linear").checked = !state.log;
      const alone = data.sequences[state.sequence].ids.length === 1;
      if (alone) state.zero = true;
      byId("zero").checked = state.zero;
      byId("zero").disabled = alone;
    }

    function updateWhole() {
      const [start, end] = zoom();
      const whole = end - start + 1 >= columns.length;
      byId("whole").textContent = whole ? "Zoom in" : "All tokens";
      byId("whole").hidden = whole && columns.length <= legibleWindow() + 1;
    }

    function redraw(change, how) {
      if (change.sequence !== undefined) state.chosen = null;
      Object.assign(state, change);
      syncControls();
      if (!positions().includes(state.position)) state.position = null;
      drawHeatmap(how);
      readCell();
      if (carried) drawSteps();
    }

    function setUpControls() {
      options(byId("quantity"), data.quantities.map(({ label }) => label));
      byId("quantity").value = String(state.quantity);
      options(
        byId("sequence"),
        data.sequences.map((sequence) => {
          const beginning = sequence.tokens.slice(0, 6).join(" ");
          return `${sequence.title}: ${beginning}${sequence.tokens.length > 6 ? " ..." : ""}`;
        }),
      );
      byId("sequence-label").hidden = data.sequences.length === 1;
      options(byId("site"), data.sites);
      byId("controls").addEventListener("submit", (event) => event.preventDefault());
      byId("quantity").addEventListener("change", (event) =>
        redraw({ quantity: Number(event.target.value) }, { window: zoom() }),
      );
      byId("sequence").addEventListener("change", (event) => {
        redraw({ sequence: Number(event.target.value), position: null });
        fillTable();
      });
      byId("zero").addEventListener("change", (event) => redraw({ zero: event.target.checked }));
      for (const id of ["linear", "log"]) {
        byId(id).addEventListener("change", () => redraw({ log: byId("log").checked }, { window: zoom() }));
      }
      byId("whole").addEventListener("click", () => {
        const [start, end] = zoom();
        const whole = end - start + 1 >= columns.length;
        drawHeatmap({ window: whole ? undefined : [0, columns.length - 1] });
      });
      byId("values").addEventListener("toggle", fillTable);
      byId("site").addEventListener("change", fillTable);
    }

    // The values of one LayerNorm as a table, for whom a picture says nothing.

    function fillTable() {
      if (!byId("values").open) return;
      const site = Number(byId("site").value);
      const sequence = data.sequences[state.sequence];
      const several = data.sequences.length > 1 ? `, sequence ${state.sequence}` : "";
      const caption = element("caption", `${data.sites[site]}${several}: every token`);
      caption.id = `values-caption${end}`;
      const head = element("tr");
      for (const text of ["position", "token", ...data.quantities.map(({ label }) => label)]) {
        const cell = element("th", text);
        cell.scope = "col";
        head.append(cell);
      }
      const thead = element("thead");
      thead.append(head);
      const body = element("tbody");
      for (let position = 0; position < sequence.ids.length; position++) {
        const row = element("tr");
        const name = element("th", String(position));
        name.scope = "row";
        const token = element("td");
        token.append(element("bdi", tokenText(position)));
        row.append(name, token);
        data.quantities.forEach((_, quantity) => {
          row.append(element("td", shown(value(quantity, site, position), page.digits)));
        });
        body.append(row);
      }
      byId("values-table").replaceChildren(caption, thead, body);
    }

    byId("charted").hidden = false;
    setUpControls();
    syncControls();
    heatmap = echarts.init(heatmapBox, null, { renderer: "canvas" });
    drawHeatmap();
    readCell();
    for (const kind of ["mouseover", "click"]) {
      heatmap.on(kind, { seriesIndex: 0 }, ({ data: [column, site] }) => point(site, columns[column]));
    }
    heatmap.on("click", { seriesIndex: 0 }, ({ data: [column, site] }) => choose(site, columns[column]));
    if (carried) {
      byId("keep").addEventListener("click", () => {
        state.kept = state.kept ? null : state.chosen;
        drawSteps();
      });
      drawSteps();
    }
    heatmap.on("datazoom", () => {
      heatmap.setOption({ xAxis: { axisLabel: labelAngle(zoom()) } });
      updateWhole();
    });
    heatmapBox.addEventListener("keydown", onKey);
    heatmapBox.addEventListener("blur", unmark);
    let kept = null; // the zoom to go back to after printing
    return {
      chart: heatmap,
      draw: () => drawHeatmap({ window: zoom() }),
      print(on) {
        if (on) kept = zoom();
        drawHeatmap({ window: on ? [0, columns.length - 1] : kept });
      },
    };
  }

  // Box plots beside each other: a bar from least to greatest, one between the quartiles, a gap at the median.

  function drawBoxes(data, figure) {
    const { rowHeight, fontSize, labelWidth } = rowSizes(data.labels);
    const box = figure.querySelector(".chart");

    function series({ title, start, boxes }, axis) {
      const filled = { fill: color("strong") };
      const pale = { fill: color("pale") };
      const middle = { fill: color("surface") };
      const rows = boxes.flatMap((box, index) => (box?.every(Number.isFinite) ? [[index, ...box]] : []));
      return [
        {
          type: "custom",
          name: title,
          xAxisIndex: axis,
          yAxisIndex: axis,
          data: rows,
          encode: { x: [1, 5], y: 0 },
          renderItem: (_, api) => {
            const [index, min, lower, median, upper, max] = [0, 1, 2, 3, 4, 5].map((dimension) => api.value(dimension));
            const band = api.size([0, 1])[1];
            const bar = (from, to, share, style) => {
              const [left, y] = api.coord([from, index]);
              const width = Math.max(1.5, api.coord([to, index])[0] - left);
              return { type: "rect", shape: { x: left, y: y - (band * share) / 2, width, height: band * share }, style };
            };
            return {
              type: "group",
              children: [
                bar(min, max, 0.36, pale),
                bar(lower, upper, 0.72, filled),
                ...(upper > lower ? [bar(median, median, 0.72, middle)] : []),
              ],
            };
          },
        },
        {
          type: "custom",
          silent: true,
          tooltip: { show: false },
          xAxisIndex: axis,
          yAxisIndex: axis,
          data: [[start]],
          encode: { x: 0 },
          renderItem: (params, api) => {
            const x = api.coord([start, 0])[0];
            const { y, height } = params.coordSys;
            const style = { stroke: color("text"), lineDash: [4, 3], lineWidth: 1, opacity: 0.7 };
            return { type: "line", shape: { x1: x, x2: x, y1: y, y2: y + height }, style };
          },
        },
      ];
    }

    function draw() {
      const stacked = box.clientWidth < 680;
      const panel = rowHeight * data.labels.length;
      const [top, below] = [30, 34];
      const height = top + panel + below;
      const count = data.panels.length;
      box.style.height = `${stacked ? count * height : height}px`;
      chart.resize();
      const share = box.clientWidth / count;
      const grids = data.panels.map((_, place) =>
        stacked
          ? { left: labelWidth, right: 16, top: top + place * height, height: panel }
          : { left: place * share + labelWidth, width: share - labelWidth - 14, top, height: panel },
      );
      chart.setOption(
        {
          animation: false,
          textStyle: { fontFamily: getComputedStyle(document.body).fontFamily },
          grid: grids,
          xAxis: data.panels.map(({ title }, gridIndex) => ({
            type: "value",
            gridIndex,
            name: title,
            nameLocation: "start",
            scale: true,
            position: "bottom",
            axisLabel: { color: color("muted"), hideOverlap: true },
            splitLine: { lineStyle: { color: color("line") } },
            nameTextStyle: { color: "transparent" },
          })),
          yAxis: data.panels.map(({ title }, gridIndex) => ({
            type: "category",
            gridIndex,
            data: data.labels,
            inverse: true,
            name: title,
            nameLocation: "start",
            nameGap: 10,
            nameTextStyle: { color: color("text"), fontWeight: "bold", align: "left" },
            axisLabel: { color: color("muted"), interval: 0, fontSize },
            axisLine: { show: false },
            axisTick: { show: false },
          })),
          tooltip: tooltip(({ seriesName, data: [index, ...steps] }) => {
            const tip = element("div", undefined, "tip");
            const list = element("dl", undefined, "facts");
            page.steps.forEach((name, step) => {
              list.append(element("dt", name), element("dd", shown(steps[step], 4)));
            });
            tip.append(element("strong", `${data.labels[index]}, ${seriesName}`), list);
            return tip;
          }),
          series: data.panels.flatMap(series),
        },
        { notMerge: true },
      );
    }

    figure.hidden = false;
    const chart = echarts.init(box, null, { renderer: "canvas" });
    draw();
    return { chart, draw, print: draw };
  }

  // The page's width, its colours, and paper.

  function redrawAll() {
    for (const { draw } of charts) draw();
  }

  let pictures = []; // of the charts, while the page is printed

  function print(on) {
    const root = document.documentElement;
    if (root.classList.contains("printing") === on) return;
    root.classList.toggle("printing", on);
    for (const { chart, print: redraw } of charts) {
      chart.getDom().style.width = on ? `${PRINT_WIDTH}px` : "";
      redraw(on);
    }
    for (const picture of pictures) picture.remove();
    // ECharts draws cells over several frames, for which paper does not wait. Drawn finer than the screen, a picture is
    // drawn at once.
    pictures = (on ? charts : []).map(({ chart }) => {
      const picture = chart.renderToCanvas({ pixelRatio: devicePixelRatio + 1 });
      picture.className = "picture";
      chart.getDom().after(picture);
      return picture;
    });
  }

  const charts = [
    ...page.grids.map((grid, index) => drawGrid(grid, index ? `-${index + 1}` : "")),
    ...page.boxes.map((boxes, index) => drawBoxes(boxes, document.getElementById(`boxes-${index + 1}`))),
  ];
  let width = document.documentElement.clientWidth;
  addEventListener("resize", () => {
    if (document.documentElement.clientWidth === width) return; // a phone's address bar came or went
    width = document.documentElement.clientWidth;
    redrawAll();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawAll);
  addEventListener("beforeprint", () => print(true));
  addEventListener("afterprint", () => print(false));
})();

// Draws the states of entities over time: one row an entity, with Apache ECharts.
"use strict";

(() => {
  const place = document.getElementById("timeline");
  if (!place) return;
  const ROW = 26;
  const RENEW_AFTER = 5000;

  function reserve(number) {
    place.style.height = `${number * ROW + 16}px`;
  }

  reserve(place.dataset.rows); // what is below must not jump when the picture comes
  const chart = echarts.init(place, null, { renderer: "canvas" });
  // The axis is a picture of its own, which stays at the top of the window; the two are zoomed together.
  const axis = echarts.init(document.getElementById("timeline-axis"), null, { renderer: "canvas" });
  echarts.connect([chart, axis]);
  let rows = [];

  let drawnAt = 0;
  let waiting = null;

  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  function segment(params, api) {
    const row = api.value(0);
    const start = api.coord([api.value(1), row]);
    const end = api.coord([api.value(2), row]);
    const height = api.size([0, 1])[1] * 0.7;
    const whole = { x: start[0], y: start[1] - height / 2, width: Math.max(end[0] - start[0], 2), height };
    const shape = echarts.graphic.clipRectByRect(whole, params.coordSys);
    if (!shape) return null;
    const level = api.value(4);
    const roomy = shape.width > 44;
    return {
      type: "rect",
      shape,
      style: { fill: colour(`--level-${level}`) },
      textContent: roomy
        ? { style: { text: api.value(3), fill: colour(`--on-${level}`), fontSize: 12, width: shape.width - 8, overflow: "truncate" } }
        : undefined,
      textConfig: { position: "inside" },
    };
  }

  function moment(time) {
    return new Date(time).toLocaleString([], { dateStyle: "medium", timeStyle: "medium", hour12: false });
  }

  // As `duration` writes it on the server.
  function lasted(ms) {
    const minutes = Math.floor(ms / 60000);
    if (minutes < 1) return `${Math.floor(ms / 1000)} s`;
    if (minutes < 60) return `${minutes} min`;
    return `${Math.floor(minutes / 60)} h${minutes % 60 ? ` ${minutes % 60} min` : ""}`;
  }

  function explain(one) {
    const row = rows[one.value[0]];
    if (!row) return "";
    const [, from, to, state] = one.value;
    const title = row.team ? `${row.title} (${row.team})` : row.title;
    return `${title}\n${state} for ${lasted(to - from)}\n${moment(from)} – ${moment(to)}`;
  }

  function draw(data) {
    rows = data.rows;
    const narrow = place.clientWidth < 600;
    const left = narrow ? 120 : Math.min(420, Math.max(160, 24 + 7.5 * Math.max(...rows.map((row) => row.label.length))));
    const text = colour("--pico-color");
    const line = colour("--pico-muted-border-color");
    const time = { type: "time", min: data.from, max: data.to, position: "top" };
    reserve(rows.length);
    chart.resize();
    axis.resize();
    axis.setOption({
      animation: false,
      grid: { left, right: 16, top: 58, bottom: 4 },
      xAxis: { ...time, axisLabel: { color: text, hideOverlap: true }, axisLine: { lineStyle: { color: line } } },
      yAxis: { type: "category", data: [], show: false },
      dataZoom: [
        { type: "slider", filterMode: "weakFilter", height: 20, top: 4, textStyle: { color: text }, labelFormatter: (value) => echarts.time.format(value, "{HH}:{mm}", false) },
      ],
      series: [{ type: "custom", renderItem: () => null, data: [] }],
    });
    chart.setOption({
      animation: false,
      grid: { left, right: 16, top: 4, bottom: 4 },
      tooltip: {
        renderMode: "richText", // HTML would need inline styles, which the page forbids
        confine: true,
        backgroundColor: colour("--pico-background-color"),
        textStyle: { color: text },
        formatter: explain,
      },
      xAxis: { ...time, axisLabel: { show: false }, axisTick: { show: false }, axisLine: { show: false } },
      yAxis: {
        type: "category",
        inverse: true,
        triggerEvent: true,
        data: rows.map((one) => one.label),
        axisLabel: { color: text, width: left - 12, overflow: "truncate", fontSize: narrow ? 11 : 13, interval: 0 },
        axisTick: { show: false },
        axisLine: { lineStyle: { color: line } },
        splitLine: { show: true, lineStyle: { color: line } },
      },
      dataZoom: [{ type: "slider", filterMode: "weakFilter", show: false }],
      series: [
        {
          type: "custom",
          renderItem: segment,
          encode: { x: [1, 2], y: 0 },
          data: rows.flatMap((row, number) => row.segments.map((one) => [number, Date.parse(one.from), Date.parse(one.to), one.state, one.level])),
          markLine: { silent: true, symbol: "none", animation: false, label: { show: false }, lineStyle: { color: text, type: "solid" }, data: [{ xAxis: Date.parse(data.to) }] },
        },
      ],
    });
  }

  async function renew() {
    waiting = null;
    drawnAt = Date.now();
    const answer = await fetch(place.dataset.url, { headers: { "HX-Request": "true" } });
    if (answer.ok) draw(await answer.json());
  }

  chart.on("click", (event) => {
    const number = event.componentType === "yAxis" ? rows.findIndex((one) => one.label === event.value) : event.value[0];
    if (rows[number]) location.href = place.dataset.url.replace(/\/timeline\/data.*/, "") + rows[number].url;
  });
  document.body.addEventListener("news", () => {
    if (!waiting) waiting = setTimeout(renew, Math.max(0, drawnAt + RENEW_AFTER - Date.now()));
  });
  addEventListener("resize", renew);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", renew);
  renew();
})();

// Draws the states of entities over time: one row an entity, with Apache ECharts.
"use strict";

(() => {
  const place = document.getElementById("timeline");
  if (!place) return;
  const ROW = 30;
  const RENEW_AFTER = 5000;
  const chart = echarts.init(place, null, { renderer: "canvas" });
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

  function draw(data) {
    rows = data.rows;
    const narrow = place.clientWidth < 600;
    const left = narrow ? 110 : 220;
    const text = colour("--pico-color");
    const line = colour("--pico-muted-border-color");
    place.style.height = `${rows.length * ROW + 110}px`;
    chart.resize();
    chart.setOption({
      animation: false,
      grid: { left, right: 16, top: 8, bottom: 80 },
      tooltip: {
        renderMode: "richText", // HTML would need inline styles, which the page forbids
        backgroundColor: colour("--pico-background-color"),
        textStyle: { color: text },
        formatter: (one) => `${rows[one.value[0]].title}\n${one.value[3]}\n${echarts.time.format(one.value[1], "{HH}:{mm}:{ss}", true)} – ${echarts.time.format(one.value[2], "{HH}:{mm}:{ss}", true)}`,
      },
      useUTC: true,
      xAxis: { type: "time", min: data.from, max: data.to, axisLabel: { color: text, hideOverlap: true }, axisLine: { lineStyle: { color: line } } },
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
      dataZoom: [
        { type: "slider", filterMode: "weakFilter", height: 24, bottom: 12, textStyle: { color: text }, labelFormatter: (value) => echarts.time.format(value, "{HH}:{mm}", true) },
        { type: "inside", filterMode: "weakFilter", zoomOnMouseWheel: "ctrl", moveOnMouseWheel: false },
      ],
      series: [
        {
          type: "custom",
          renderItem: segment,
          encode: { x: [1, 2], y: 0 },
          data: rows.flatMap((row, number) => row.segments.map((one) => [number, Date.parse(one.from), Date.parse(one.to), one.state, one.level])),
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

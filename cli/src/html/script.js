for (const viewer of document.querySelectorAll(".viewer")) {
  const stage = viewer.querySelector(".stage");
  const range = viewer.querySelector("input");
  const move = (percent) => {
    range.value = percent;
    stage.style.setProperty("--cut", range.value + "%");
  };
  const drag = (event) => {
    const box = stage.getBoundingClientRect();
    move((100 * (event.clientX - box.left)) / box.width);
  };
  range.addEventListener("input", () => move(range.value));
  stage.addEventListener("pointerdown", (event) => {
    stage.setPointerCapture(event.pointerId);
    range.focus({ preventScroll: true, focusVisible: false });
    drag(event);
    event.preventDefault();
  });
  stage.addEventListener("pointermove", (event) => {
    if (stage.hasPointerCapture(event.pointerId)) drag(event);
  });
  for (const select of viewer.querySelectorAll("select")) {
    const show = () => {
      for (const image of stage.querySelectorAll("img")) {
        image.classList.toggle(select.dataset.side, image.dataset.name === select.value);
      }
    };
    select.addEventListener("change", show);
    // Browsers bring a reloaded page's choices back, without a word.
    show();
  }
  move(range.value);
}

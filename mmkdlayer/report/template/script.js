'use strict';
for (const input of document.querySelectorAll('.opacity')) {
  input.addEventListener('input', () =>
    document.documentElement.style.setProperty('--overlay', input.value / 100));
}

function start(viewer) {
  const data = JSON.parse(viewer.querySelector('script').textContent);
  const [choices, stage, which, said] =
    ['.choices', '.stage', '.which', '.said'].map((name) => viewer.querySelector(name));
  const [image, canvas] = [stage.querySelector('img'), stage.querySelector('canvas')];
  const strip = viewer.querySelector('.controls .strip');
  const shares = data.examples.map((one) =>
    Uint8Array.from(atob(one.shares), (letter) => letter.charCodeAt(0)));
  let shown = 0;

  function draw() {
    const one = data.examples[shown];
    const [height, width] = one.size;
    const rank = Number(which.value);
    const map = shares[shown].subarray(rank * height * width, (rank + 1) * height * width);
    canvas.width = width;
    canvas.height = height;
    const pixels = new ImageData(width, height);
    const most = Math.max(1, ...map);
    map.forEach((share, i) => pixels.data.set([255, 64, 0, 217 * share / most], 4 * i));
    canvas.getContext('2d').putImageData(pixels, 0, 0);
    const name = one.names[rank];
    const count = map.reduce((sum, share) => sum + (share > 0), 0);
    said.textContent = name === undefined ? 'No template fires on this image.' :
      `${name}: fires at ${count} of ${height * width} positions, at most with ` +
      `${Math.round(most / 2.55)} % of what fires there (the strongest colour).`;
    which.setAttribute('aria-valuetext', name || 'none');
    canvas.setAttribute('aria-label', said.textContent);
    const uri = data.strips[one.templates[rank]];
    strip.hidden = !uri;
    if (uri) strip.src = uri;
  }

  function choose(number) {
    shown = number;
    const one = data.examples[number];
    image.src = one.picture;
    image.alt = one.title;
    which.max = Math.max(0, one.names.length - 1);
    which.value = 0;
    [...choices.children].forEach((button, i) => button.setAttribute('aria-pressed', i === number));
    draw();
  }

  data.examples.forEach((one, number) => {
    const button = document.createElement('button');
    const picture = document.createElement('img');
    button.type = 'button';
    picture.src = one.picture;
    picture.alt = '';
    button.append(picture, one.title);
    button.title = one.title;
    button.addEventListener('click', () => choose(number));
    choices.append(button);
  });
  which.addEventListener('input', draw);
  choose(0);
}

document.querySelectorAll('.viewer').forEach(start);

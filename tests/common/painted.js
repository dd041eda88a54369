// A picture that carries the time, four colours and a tone, in place of camera and microphone; and what a video element
// shows of it. Windows of one machine have the same clock.
window.painted = (() => {
  const [WIDTH, HEIGHT, BITS, PER_ROW, BLOCK] = [640, 360, 28, 14, 40];
  const COLOURS = ["#d01010", "#10b010", "#1030d0", "#e0e0e0"];
  const now = () => performance.timeOrigin + performance.now();
  // The time in ms, modulo 2^20, and the same upside down, so that a spoilt picture is not taken for a time.
  const coded = (time) => (Math.round(time) % 2 ** 20) * 2 ** 8 + (~Math.round(time) & 0xff);
  const bit = (code, index) => Math.floor(code / 2 ** index) % 2;
  const place = (index) => [(index % PER_ROW) * BLOCK, Math.floor(index / PER_ROW) * BLOCK];

  function draw(context) {
    const code = coded(now());
    for (let index = 0; index < BITS; index += 1) {
      context.fillStyle = bit(code, index) ? "#ffffff" : "#000000";
      context.fillRect(...place(index), BLOCK, BLOCK);
    }
  }

  /** Camera and microphone from now on. */
  function send(pitch) {
    const canvas = Object.assign(document.createElement("canvas"), { width: WIDTH, height: HEIGHT });
    const context = canvas.getContext("2d");
    COLOURS.forEach((colour, index) => {
      context.fillStyle = colour;
      context.fillRect((index * WIDTH) / 4, HEIGHT / 2, WIDTH / 4, HEIGHT / 2);
    });
    let picture;
    if ("MediaStreamTrackGenerator" in window) {
      // As a camera does: each picture at once, and not when the page is drawn.
      picture = new MediaStreamTrackGenerator({ kind: "video" });
      const writer = picture.writable.getWriter();
      setInterval(() => {
        draw(context);
        if (writer.desiredSize > 0) writer.write(new VideoFrame(canvas, { timestamp: Math.round(performance.now() * 1000) }));
      }, 33);
    } else {
      setInterval(() => draw(context), 33);
      [picture] = canvas.captureStream(30).getTracks();
    }
    const audio = new AudioContext();
    const tone = new OscillatorNode(audio, { frequency: pitch });
    const out = audio.createMediaStreamDestination();
    tone.connect(new GainNode(audio, { gain: 0.3 })).connect(out);
    tone.start();
    const tracks = [picture, out.stream.getAudioTracks()[0]];
    navigator.mediaDevices.getUserMedia = async () => new MediaStream(tracks);
  }

  function read(video, context) {
    context.drawImage(video, 0, 0, WIDTH, HEIGHT);
    const at = (x, y) => [...context.getImageData(x, y, 1, 1).data].slice(0, 3);
    let code = 0;
    for (let index = 0; index < BITS; index += 1) {
      const [x, y] = place(index);
      if (at(x + BLOCK / 2, y + BLOCK / 2)[1] > 127) code += 2 ** index;
    }
    const time = Math.floor(code / 2 ** 8);
    const isWhole = (time & 0xff) === (~code & 0xff);
    const colours = COLOURS.map((_, index) => at(((index + 0.5) * WIDTH) / 4, HEIGHT * 0.75));
    return { delay: isWhole ? (Math.round(now()) - time + 2 ** 21) % 2 ** 20 : null, colours };
  }

  /** How old so many pictures were when they were shown, in ms and in order; and the colours of the last. */
  function shown(video, count) {
    const context = new OffscreenCanvas(WIDTH, HEIGHT).getContext("2d", { willReadFrequently: true });
    const delays = [];
    let spoilt = 0;
    return new Promise((resolve) => {
      const look = () => {
        const { delay, colours } = read(video, context);
        if (delay === null) spoilt += 1;
        else delays.push(delay);
        if (delays.length + spoilt < count) return video.requestVideoFrameCallback(look);
        resolve({ delays: delays.sort((a, b) => a - b), spoilt, colours });
      };
      video.requestVideoFrameCallback(look);
    });
  }

  /** The loudest pitch of a stream in Hz, and how loud it is in dB. */
  async function pitch(stream) {
    const audio = new AudioContext();
    const analyser = new AnalyserNode(audio, { fftSize: 8192 });
    audio.createMediaStreamSource(stream).connect(analyser);
    const spectrum = new Float32Array(analyser.frequencyBinCount);
    await new Promise((resolve) => setTimeout(resolve, 1000));
    analyser.getFloatFrequencyData(spectrum);
    const loudest = spectrum.indexOf(Math.max(...spectrum));
    const found = { pitch: (loudest * audio.sampleRate) / analyser.fftSize, level: spectrum[loudest] };
    await audio.close();
    return found;
  }

  return { send, shown, pitch };
})();

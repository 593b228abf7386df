// Plays what stands behind a URL in an element, at each of the places, and to its end. What is heard
// there is a tone that rises by 20 Hz a second, so it tells where it comes from.
const { url, kind, places } = given;
const element = document.createElement(kind);
document.body.append(element);

const event = name => new Promise((resolve, reject) => {
    element.addEventListener(name, resolve, { once: true });
    element.addEventListener('error', () => reject(Error(`error ${element.error?.code}: ${element.error?.message}`)),
        { once: true });
    setTimeout(() => reject(Error(`no ${name} at ${element.currentTime}`)), 60_000);
});

const context = new AudioContext();
const analyser = new AnalyserNode(context, { fftSize: 4096, smoothingTimeConstant: 0 });
const splitter = new ChannelSplitterNode(context, { numberOfOutputs: 2 });
context.createMediaElementSource(element).connect(splitter);
splitter.connect(analyser, 0);
splitter.connect(context.destination, 0);
await context.resume();

/// The loudest pitch of the left channel in what was played last.
const pitch = () => {
    const loudness = new Float32Array(analyser.frequencyBinCount);
    analyser.getFloatFrequencyData(loudness);
    const loudest = loudness.indexOf(Math.max(...loudness));
    return loudest * context.sampleRate / analyser.fftSize;
};

element.src = url;
await event('loadedmetadata');
const { duration, videoWidth = 0 } = element;
const wrong = [];
for (const place of places) {
    // To its end it plays further down.
    const seconds = Math.min(place / 1000, duration - 1.5);
    const sought = event('seeked');
    element.currentTime = seconds;
    await sought;
    await element.play();
    // The analyser looks at the last tenth of a second, and what is played is a little behind.
    while (element.currentTime < seconds + 0.35) await event('timeupdate');
    const heard = pitch(), expected = 200 + 20 * (element.currentTime - 0.1);
    element.pause();
    if (Math.abs(heard - expected) > 40) wrong.push({ seconds, heard, expected });
}
const sought = event('seeked');
element.currentTime = duration - 0.7;
await sought;
const ended = event('ended');
await element.play();
await ended;
await context.close();
return { duration, videoWidth, wrong, end: element.currentTime, state: element.readyState };

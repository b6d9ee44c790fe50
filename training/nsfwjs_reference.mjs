// What TensorFlow.js itself says of synthetic pictures, for `training/convert_nsfwjs.py --reference`.
//
//     npm install nsfwjs@4.4.0 @tensorflow/tfjs
//     node nsfwjs_reference.mjs PICTURES.json > REFERENCE.json
//
// PICTURES.json: [{"picture": arguments of models.preparation.synthetic, "size": side, "rgb": base64 of the bytes}]
import { readFileSync } from "node:fs";
import * as tf from "@tensorflow/tfjs";
import { load } from "nsfwjs/core";
import { MobileNetV2Model } from "nsfwjs/models/mobilenet_v2";

console.info = () => {};
console.warn = () => {};
const net = await load("MobileNetV2", { modelDefinitions: [MobileNetV2Model] });
const answers = [];
for (const { picture, size, rgb } of JSON.parse(readFileSync(process.argv[2]))) {
  const pixels = tf.tensor3d(new Uint8Array(Buffer.from(rgb, "base64")), [size, size, 3], "int32");
  answers.push({ picture, probabilities: Array.from(await net.infer(pixels).data()) });
}
process.stdout.write(JSON.stringify(answers));

// What rules say in a sentence; in Indonesian what is not here stays as the rule said it.

import { howLong } from "./dom.js";
import { language } from "./words.js";

const SENTENCES = {
  "the camera is covered": "kamera tertutup", "the camera sends no picture": "kamera tidak mengirim gambar", "just began to look": "baru mulai melihat",
  "people are there": "ada orang di sana", "nobody was seen in opening hours": "tidak ada orang pada jam buka", "opening time was just now": "baru saja jam buka",
  "not watched yet": "belum diamati", "the clock is not known": "jam tidak diketahui", "a vehicle stands in the lane": "kendaraan berhenti di lajur", "drives on": "jalan lagi",
  "is not seen any more": "tidak terlihat lagi", parked: "parkir", "sees again": "melihat lagi", "somebody is there": "ada orang di sana", "something moves": "ada yang bergerak", gone: "sudah pergi",
  "it is too dark to see": "terlalu gelap", "the camera is out of focus": "kamera tidak fokus", "the camera was moved": "kamera bergeser", "the picture is frozen": "gambar beku",
  "the camera repeats old pictures": "kamera mengulang gambar lama", "pictures are missing": "ada gambar yang hilang", "the box had no time to look": "kotak tidak sempat melihat",
  "people cannot be counted without a model that knows them": "orang tidak dapat dihitung tanpa model yang mengenalinya",
};
const NOBODY = /^nobody seen, for less than (\d+) s$/;

export function detailWords(text) {
  const isIndonesian = language() === "id";
  const told = isIndonesian ? (SENTENCES[text] ?? text) : text;
  return told.replace(NOBODY, (_, seconds) => `${isIndonesian ? "tidak ada orang, belum sampai" : "nobody seen, for less than"} ${howLong(seconds * 1000)}`);
}

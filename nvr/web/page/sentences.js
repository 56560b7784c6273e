// What rules say in a sentence, in Indonesian; what is not here stays as the rule said it.

import { language } from "./words.js";

const SENTENCES = {
  "the camera is covered": "kamera tertutup", "the camera sends no picture": "kamera tidak mengirim gambar", "just began to look": "baru mulai melihat",
  "people are there": "ada orang di sana", "nobody was seen in opening hours": "tidak ada orang pada jam buka", "opening time was just now": "baru saja jam buka",
  "not watched yet": "belum diamati", "the clock is not known": "jam tidak diketahui", "a vehicle stands in the lane": "kendaraan berhenti di jalur", "drives on": "jalan lagi",
  "is not seen any more": "tidak terlihat lagi", parked: "parkir", "sees again": "melihat lagi", "somebody is there": "ada orang di sana", "something moves": "ada yang bergerak", gone: "sudah pergi",
};

export const detailWords = (text) => (language() === "id" ? SENTENCES[text] ?? text : text);

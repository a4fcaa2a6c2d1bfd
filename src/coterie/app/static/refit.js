// Train the head again on what was decided; its labels are looked at first, and taken as one step that can be undone.
import { attempt, question, reload, say, send } from "./common.js";
import { follow } from "./features.js";

let running = false;
export async function offer() {
  if (running) return;
  running = true;
  try {
    const job = await follow("refit", {}, (one) => { if (one.state === "running") say("Training the head again …"); });
    if (!job) return;
    const { better, changes, moves } = job.result;
    if (!better || !changes) { say(`${job.message} ${better ? "No label would change." : "So it is not offered."}`); return; }
    const take = await question(`${changes} labels would change`, { text: `${job.message} What was decided stays.`, list: moves, yes: "Take them" });
    if (take) await attempt(() => send("/refit", {}), reload);
  } finally { running = false; }
}

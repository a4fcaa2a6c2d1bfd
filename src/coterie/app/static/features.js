// The job that computes the embedding of all items.
import { ask, order, say } from "./common.js";

// Begin a job and follow it to its end; resolves to what it found, or says why there is nothing, and to null.
export async function follow(name, settings, told) {
  try {
    await order(`/jobs/${name}`, settings);
    for (;;) {
      // A server that is away for a while may have the job still.
      const answer = await ask("/jobs").catch((error) => { if (error.status) throw error; });
      if (answer) {
        const job = answer.jobs.find((one) => one.name === name);
        if (!job) throw new Error("The server was started anew, and what it was doing has ended with it: begin it again.");
        told(job);
        if (job.state === "done") return job;
        if (job.state === "failed") throw new Error(job.message);
      }
      await new Promise((done) => setTimeout(done, 400));
    }
  } catch (error) {
    say(error.message, true);
    return null;
  }
}
function left({ done, total }, seconds) {
  const minutes = seconds * (total - done) / done / 60;
  return minutes < 1 ? "less than a minute left" : `about ${Math.ceil(minutes)} min left`;
}
export function compute(button, where) {
  if (!button) return;
  button.onclick = async () => {
    button.disabled = true;
    const begun = performance.now();
    const job = await follow("features", {}, (one) => { where.textContent = one.done ? `${Math.round(100 * one.done / one.total)}%, ${left(one, (performance.now() - begun) / 1000)}` : "…"; });
    if (job) location.reload(); else { where.textContent = ""; button.disabled = false; }
  };
}

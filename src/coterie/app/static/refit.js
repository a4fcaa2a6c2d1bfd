// Train the head again on what was decided.
import { say } from "./common.js";
export function offer() { say("Training the head again is not part of this version.", true); }

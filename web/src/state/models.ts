import { MODEL_LIST, type Models } from "../protocol.ts";
import { useQuery, type Query } from "./query.ts";
import { ask } from "./session.ts";

/** All device models. */
export function useModels(): Query<Models> {
  return useQuery(
    "models",
    () => ask(MODEL_LIST, {}),
    ({ noun }) => noun === "model",
  );
}

/** The models as choices of a field. */
export function modelOptions({ models }: Models): (readonly [code: string, text: string])[] {
  return models.map(({ code, name }) => [code, name ? `${code} (${name})` : code]);
}

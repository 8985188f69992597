import a11y from "eslint-plugin-jsx-a11y";
import { globalIgnores } from "eslint/config";
import typescript from "typescript-eslint";

export default typescript.config(
  globalIgnores(["dist", "src/protocol.ts"]),
  typescript.configs.strictTypeChecked,
  typescript.configs.stylisticTypeChecked,
  a11y.flatConfigs.strict,
  {
    languageOptions: {
      parserOptions: { projectService: { allowDefaultProject: ["*.js"] }, tsconfigRootDir: import.meta.dirname },
    },
    rules: {
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
      "@typescript-eslint/no-confusing-void-expression": ["error", { ignoreArrowShorthand: true }],
      // In JSX a handler may start work whose errors the work itself shows.
      "@typescript-eslint/no-misused-promises": ["error", { checksVoidReturn: { attributes: false } }],
    },
  },
);
